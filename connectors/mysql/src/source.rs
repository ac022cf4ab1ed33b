//! The source: from a configuration to a running stream.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use rowtide_sdk::{
    Batch, BoxFuture, Error, Finding, LogStart, Origin, Position, Result, Severity, Source,
    SourceContext, SourceInfo, TableFilter, on_own_thread,
};
use rowtide_spool::{Folder, Remedies};
use tracing::Instrument as _;

use crate::catalog::{Catalog, Scene};
use crate::codes;
use crate::config::{ConnectOptions, MysqlConfig, captures, is_captured, left_out};
use crate::error::codes as refusals;
use crate::gtid::mariadb::GtidPosition;
use crate::gtid::mysql::GtidSet;
use crate::guard::{FileTimes, Guard};
use crate::position::{Altered, History, MyPosition, write_position};
use crate::preflight::{described, settings};
use crate::server::{LogEnd, Server};
use crate::stream::{self, Assembler, Passed, Place, Progress, Session};
use crate::trial::{check_seen, made};
use crate::wire::{BinlogConnection, Dump, Start, sql_conn};

/// A MySQL or MariaDB server read by its binlog.
#[derive(Debug, Clone)]
pub struct MysqlSource {
    pub(crate) config: MysqlConfig,
    pub(crate) options: ConnectOptions,
    pub(crate) filter: TableFilter,
}

/// The constant facts of MySQL and MariaDB sources.
pub fn info() -> SourceInfo {
    SourceInfo { connector: "mysql", write_position }
}

fn first(findings: Vec<Finding>) -> Error {
    let finding = findings.into_iter().next();
    let (code, message, remedy) = match finding {
        Some(finding) => (finding.code, finding.message, finding.remedy),
        None => (refusals::SETTING, "the settings cannot work".to_owned(), None),
    };
    let error = Error::fatal(Origin::Config, code, message);
    match remedy {
        Some(remedy) => error.with_remedy(remedy),
        None => error,
    }
}

impl MysqlSource {
    /// A source that has not connected yet. `folder` is the folder that relative paths of files in the
    /// settings start from.
    ///
    /// # Errors
    /// Fatal: the first problem of the settings. [`MysqlConfig::problems`] gives all of them.
    pub fn new(config: MysqlConfig, folder: &Path) -> Result<Self> {
        let options = config.connect_options(folder).map_err(first)?;
        let filter = config.tables.filter().map_err(first)?;
        Ok(Self { config, options, filter })
    }

    /// A text for what only one connector may use, as far as the settings tell; without secrets. Without
    /// a `server_id` of the settings' own, none: names of connectors are not the same.
    pub fn resource(&self) -> Option<String> {
        let id = self.config.server_id?;
        Some(format!("mysql/{}/server_id {id}", self.options.places()))
    }

    /// Refuses statements on events where settings hide columns.
    pub(crate) fn shown_by_statements(&self, is_any_hidden: bool) -> Option<Error> {
        if self.config.statement_bytes == 0 || !is_any_hidden {
            return None;
        }
        let message = "the text of statements is to be put on events (`statement_bytes`), and columns are to be \
            hidden (`columns` under `tables`): the text holds their values";
        let error = Error::fatal(Origin::Config, codes::STATEMENTS_SHOW, message);
        Some(error.with_remedy("set `statement_bytes: 0`, or hide no columns"))
    }

    /// A fingerprint of which tables are captured.
    pub(crate) fn shape(&self) -> String {
        let tables = &self.config.tables;
        let hash = crc32fast::hash(format!("{:?} {:?}", tables.include, tables.exclude).as_bytes());
        format!("{hash:08x}")
    }

    fn heartbeat(&self) -> Duration {
        Duration::from_secs(u64::from(self.config.heartbeat_seconds))
    }

    /// The folder for what is held. Only who reads the log may empty it.
    fn folder(&self, cx: &SourceContext) -> Result<Folder> {
        let dir = self.config.spool_dir(&cx.name).unwrap_or_else(|| cx.scratch.clone());
        Folder::open(dir, self.config.spool.max.map(|max| max.0), SPOOL_REMEDIES)
    }

    /// Whether the folder for what is held could be made and written to.
    ///
    /// # Errors
    /// `RT2302`, fatal.
    pub(crate) fn check_spool(&self, name: &str, scratch: Option<&Path>) -> Result<()> {
        let dir = self.config.spool_dir(name).or_else(|| scratch.map(Path::to_owned));
        dir.map_or(Ok(()), |dir| Folder::check(&dir, SPOOL_REMEDIES))
    }
}

/// What only one connector may use of a server: its id among those that read the log.
pub(crate) fn claimed(server: &Server, server_id: u32) -> String {
    format!("mysql/{}/server_id {server_id}", server.identity())
}

/// The bit by which the id of who looks ahead differs from the stream's.
const LOOKS_AHEAD: u32 = 1 << 31;

const SPOOL_REMEDIES: Remedies = Remedies {
    disk_full: "free space on the disk, or set `spool.dir` to a folder on a larger one; XA transactions stay \
         there from their XA PREPARE on (`XA RECOVER` lists them)",
    limit: "raise `spool.max`, or end XA transactions that are prepared in the database (`XA RECOVER` lists them)",
};

impl Source for MysqlSource {
    fn info(&self) -> SourceInfo {
        info()
    }

    fn spools(&self) -> bool {
        true
    }

    fn run(self: Box<Self>, cx: SourceContext) -> BoxFuture<'static, Result<()>> {
        let work = run(*self, cx).instrument(tracing::Span::current());
        Box::pin(on_own_thread("mysql", codes::THREAD, work))
    }
}

async fn run(source: MysqlSource, mut cx: SourceContext) -> Result<()> {
    if let Some(refused) = source.shown_by_statements(cx.hiding.is_some()) {
        return Err(refused);
    }
    let shutdown = cx.shutdown.clone();
    let report = cx.report.clone();
    let (session, guard) = tokio::select! {
        biased;
        () = shutdown.cancelled() => return Ok(()),
        opened = Box::pin(open(source, &mut cx)) => opened?,
    };
    report.streaming();
    let mut watch = guard.watch();
    let ended = tokio::select! {
        biased;
        ended = Box::pin(stream::run(session, cx)) => ended,
        anew = Box::pin(watch.run()) => Err(anew),
    };
    watch.close().await;
    ended
}

/// Connects, verifies and prepares everything, and starts the stream.
async fn open(mut source: MysqlSource, cx: &mut SourceContext) -> Result<(Session, Guard)> {
    let connection = BinlogConnection::connect(&source.options).await?;
    // Whatever is asked from here on is asked of the same server.
    let greeting = connection.greeting().clone();
    source.options = source.options.at(&greeting.target, greeting.address);
    let mut conn = sql_conn(&source.options).await?;
    let server = Server::ask(&mut conn, &greeting).await?;
    if let Some(obstacle) = server.obstacles().into_iter().next() {
        return Err(obstacle);
    }
    let server_id = source.config.server_id_for(&cx.name);
    cx.claims.claim(&claimed(&server, server_id))?;
    let resume = cx.resume.as_ref().map(MyPosition::parse).transpose()?;
    let shape = source.shape();
    if let Some(review) = cx.review.take() {
        let log = if resume.is_some() { LogStart::Earlier } else { LogStart::Now };
        review(&described(&source, &server).await?, log)?;
    }
    let (position, passed) = match resume {
        Some(position) => resumed(position, &server, &shape)?,
        None => {
            let end = server.log_end(&mut conn).await?;
            let mut begun = begun(end, &server, shape);
            begun.0.history.created = made(&source, server_id, &begun.0.file).await?;
            save_first(cx, &begun.0).await?;
            begun
        }
    };
    let files = server.files(&mut conn).await?;
    check_seen(&source, server_id, &files, &position).await?;
    let is_there = match &cx.resume {
        Some(_) => is_there(&position, &passed, &server, &files)?,
        // The end that the server named just now.
        None => server.can_start(position.pos),
    };
    conn.close().await;
    let folder = source.folder(cx)?;
    let scene = Scene {
        options: source.options.clone(),
        image: server.row_image(),
        is_mariadb: server.is_mariadb(),
        // Another than the stream's, which the server would end otherwise.
        server_id: server_id ^ LOOKS_AHEAD,
    };
    let mut catalog = Catalog::new(scene, &position.altered.usable(&cx.known_tables));
    // A position of another server, or in a file that is gone, has no place that could be looked from.
    if !server.has_full_metadata() && (is_there || cx.resume.is_none()) {
        let place = Place { file: position.file.clone(), pos: position.pos };
        let captures = captures(source.filter.clone(), server.name_case());
        Box::pin(catalog.preload(&captures, &place)).await?;
    }
    let start = start(&position, &passed, is_there)?;
    let mut progress = Progress::new(position.clone(), passed);
    if matches!(start, Start::MariaDbGtids(_)) {
        progress.begins_by_gtids();
    }
    let assembler = assembler(&source, &server, cx, progress)
        .with_known(&cx.known_tables, &position.altered)
        .with_purged(server.purged()?)
        .with_leaps(leaps(&start, &files));
    let dump = Dump {
        heartbeat: source.heartbeat(),
        max_event: u64::try_from(assembler.event_max()).unwrap_or(u64::MAX),
        ..Dump::new(server_id, start)
    };
    let stream = connection.dump(&dump).await?;
    say_streams(&position, &server, server_id);
    let times = FileTimes::default();
    let heartbeat = source.heartbeat();
    let session = Session { stream, assembler, catalog, heartbeat, folder, times: times.clone() };
    Ok((session, guard(source, server, cx, times)))
}

fn say_streams(position: &MyPosition, server: &Server, server_id: u32) {
    // What a server's restart took back shows here.
    for finding in settings(server).iter().filter(|it| it.severity == Severity::Warning) {
        let remedy = finding.remedy.as_deref().unwrap_or_default();
        tracing::warn!(code = finding.code.0, remedy, "{}", finding.message);
    }
    tracing::info!(
        file = position.file,
        pos = position.pos,
        gtids = position.gtids.as_deref().unwrap_or_default(),
        server = %server.version,
        server_id,
        "streaming"
    );
}

fn guard(source: MysqlSource, server: Server, cx: &SourceContext, times: FileTimes) -> Guard {
    Guard {
        threshold: Duration::from_secs(source.config.runway_warning_seconds.into()),
        options: source.options,
        server,
        filter: source.filter,
        committed: cx.committed.clone(),
        times,
        report: cx.report.clone(),
        has_advised: cx.report.has_streamed(),
    }
}

/// Behind GTIDs the server leaves out what was passed, without a word: the files in which it may leave out so
/// much that the lower 32 bits of an offset do not tell where the next transaction is. `None` where it
/// leaves nothing out.
pub(crate) fn leaps(start: &Start, files: &[(String, u64)]) -> Option<Vec<String>> {
    match start {
        Start::File { .. } => None,
        Start::Gtids(_) | Start::MariaDbGtids(_) => {
            let large = files.iter().filter(|(_, size)| u32::try_from(*size).is_err());
            Some(large.map(|(file, _)| file.clone()).collect())
        }
    }
}

/// Of so many tables it is told at most that they are left out.
const TOLD_MAX: usize = 1000;

/// What takes this server's stream apart.
fn assembler(
    source: &MysqlSource,
    server: &Server,
    cx: &SourceContext,
    progress: Progress,
) -> Assembler {
    let filter = source.filter.clone();
    let told = Mutex::new(HashSet::new());
    let is_wanted = move |database: &str, table: &str| {
        if let Some(finding) = left_out(&filter, database, table)
            && let Ok(mut told) = told.lock()
            && told.len() < TOLD_MAX
            && told.insert((database.to_owned(), table.to_owned()))
        {
            let remedy = finding.remedy.unwrap_or_default();
            tracing::info!(code = finding.code.0, remedy, "{}", finding.message);
        }
        is_captured(&filter, database, table)
    };
    Assembler::new(progress, Box::new(is_wanted), cx.limits, server.is_mariadb())
        .with_names(server.name_case())
        .with_row_events(server.row_event())
        .with_hidden(cx.hiding.clone(), cx.sightings.clone())
        .with_statements(source.config.statement_bytes)
}

/// Where a first start begins: at the end of the log.
pub(crate) fn begun(end: LogEnd, server: &Server, shape: String) -> (MyPosition, Passed) {
    let LogEnd { file, pos, passed } = end;
    let position = MyPosition {
        file,
        pos,
        gtids: gtids(&passed),
        in_tx: None,
        pending: Vec::new(),
        by_gtids: false,
        altered: Altered::unread(),
        history: History::of(server.identity()),
        shape,
    };
    (position, passed)
}

pub(crate) fn gtids(passed: &Passed) -> Option<String> {
    match passed {
        Passed::Files => None,
        Passed::Mysql(set) => Some(set.to_string()),
        Passed::Mariadb(position) => Some(position.to_string()),
    }
}

async fn save_first(cx: &mut SourceContext, position: &MyPosition) -> Result<()> {
    let saved = position.to_position()?;
    let batch = Batch { resume: Some(saved.clone()), ..Batch::default() };
    let is_saved = |newest: &Option<Position>| newest.as_ref() == Some(&saved);
    cx.out.send(batch).await.map_err(|_| stream::host_gone())?;
    cx.committed.wait_for(is_saved).await.map_err(|_| stream::host_gone())?;
    let MyPosition { file, pos, .. } = position;
    tracing::info!(file, pos, "the first position is saved");
    Ok(())
}

fn unreadable(what: &str) -> Error {
    let message = format!("the saved position cannot be read: {what}");
    Error::fatal(Origin::Source, codes::POSITION_UNREADABLE, message).with_remedy(
        "choose another connector name, or set the position with `rowtide position set --connector NAME --at PLACE`",
    )
}

/// Verifies that the server's log goes on from a saved position.
pub(crate) fn resumed(
    mut position: MyPosition,
    server: &Server,
    shape: &str,
) -> Result<(MyPosition, Passed)> {
    if position.shape != shape {
        if let Some(in_tx) = position.in_tx.take() {
            tracing::warn!(
                transaction = in_tx.id,
                changes = in_tx.next_index,
                "the captured tables changed inside a transaction: it is repeated from its start"
            );
        }
        shape.clone_into(&mut position.shape);
    }
    let is_same = position.history.server == server.identity();
    // MySQL's GTIDs are none of MariaDB's.
    let other = |what| if is_same { unreadable(what) } else { foreign(&position, server) };
    let passed = match &position.gtids {
        Some(text) if server.is_mariadb() => {
            let passed: GtidPosition = text.parse().map_err(|_| other("its GTIDs"))?;
            if !is_same {
                check_domains(&passed, server, is_same)?;
            }
            Passed::Mariadb(passed)
        }
        Some(text) if server.has_gtids() => {
            let passed: GtidSet = text.parse().map_err(|_| other("its GTIDs"))?;
            check_gtids(&passed, &position, server, is_same)?;
            Passed::Mysql(passed)
        }
        _ if is_same => Passed::Files,
        _ => return Err(foreign(&position, server)),
    };
    position.gtids = gtids(&passed);
    if !is_same {
        tracing::warn!(
            before = position.history.server,
            now = server.identity(),
            "another server than before goes on with the same transactions"
        );
        position.history = History::of(server.identity());
        // The place is one of the other server's log: here a file of that name is another.
        position.file.clear();
        position.pos = 0;
        position.by_gtids = server.is_mariadb();
        for pending in &mut position.pending {
            pending.file.clear();
            pending.pos = 0;
        }
    }
    Ok((position, passed))
}

fn foreign(position: &MyPosition, server: &Server) -> Error {
    // Sets of MySQL have colons, and GTIDs of MariaDB none.
    let is_of_the_other = |gtids: &String| gtids.contains(':') == server.is_mariadb();
    let gtids = position.gtids.as_ref().filter(|gtids| !gtids.is_empty());
    let (why, remedy) = if gtids.is_some_and(is_of_the_other) {
        (
            "MySQL and MariaDB do not know each other's GTIDs",
            "point `url` at the server that the position is of; where this one took its place, bring the \
             target in step with the tables and go on from its log's end (`rowtide position adopt \
             --connector NAME`)",
        )
    } else {
        (
            "files of one name are not the same there",
            "point `url` at the server that the position is of; a replica can go on in its place where \
             positions have GTIDs (MySQL: gtid_mode=ON)",
        )
    };
    let message = format!(
        "the saved position is one of server {}, and this is server {}: {why}",
        position.history.server,
        server.identity()
    );
    Error::fatal(Origin::Source, codes::FOREIGN_HISTORY, message).with_remedy(remedy)
}

/// Whether a saved position that [`resumed`] took is one in a file that the server has, to go on from there;
/// else it goes on by GTIDs.
///
/// # Errors
/// `RT2702` where the log ends before it; `RT2703` where MariaDB lacks what was handed over.
pub(crate) fn is_there(
    position: &MyPosition,
    passed: &Passed,
    server: &Server,
    files: &[(String, u64)],
) -> Result<bool> {
    let is_there = server.has_place(files, position)?;
    match passed {
        Passed::Mariadb(passed) if !is_there || position.by_gtids => {
            check_domains(passed, server, true)?;
        }
        _ => {}
    }
    Ok(is_there)
}

/// MySQL: whether the server has what was handed over, and all that comes after it.
fn check_gtids(
    passed: &GtidSet,
    position: &MyPosition,
    server: &Server,
    is_same: bool,
) -> Result<()> {
    if !server.executed()?.holds_all(passed) {
        return Err(behind(&passed.to_string(), "gtid_executed", is_same));
    }
    let mut gone = server.purged()?;
    gone.remove_all(&without_pending(passed, position)?);
    if !gone.is_empty() {
        let why = match server.logs_what_it_replicates() {
            true => {
                "the server threw away log with transactions that were not handed over \
                 (binlog_expire_logs_seconds, PURGE BINARY LOGS)"
            }
            false => {
                "the server's log lacks transactions that were not handed over: it was thrown away, or the \
                 server replicated them without logging them (log_replica_updates is off)"
            }
        };
        let message = format!("{why}: {gone} (handed over: {passed})");
        return Err(Error::fatal(Origin::Source, codes::LOG_PURGED, message).with_remedy(
            "where another server of the same replication has the log still, point `url` at it; else go on from \
             the log's end (`rowtide position adopt --connector NAME`) and bring the target in step with the tables",
        ));
    }
    Ok(())
}

/// MariaDB: whether the log has held what was handed over. The server itself takes a domain that it has
/// nothing of for one that is yet to come, also where the transactions in it were lost.
fn check_domains(passed: &GtidPosition, server: &Server, is_same: bool) -> Result<()> {
    let state = server.state()?;
    match passed.iter().all(|gtid| state.holds(gtid)) {
        true => Ok(()),
        false => Err(behind(&passed.to_string(), "gtid_binlog_state", is_same)),
    }
}

/// The server lacks some of `passed`, as its `variable` says. Another server may yet get them.
fn behind(passed: &str, variable: &str, is_same: bool) -> Error {
    let message = format!(
        "the server does not have transactions that were handed over: its log was reset, it is a replica \
         that is behind or logs nothing of what it replicates (log_replica_updates, log_slave_updates), or it \
         went another way (handed over: {passed})"
    );
    let error = if is_same {
        Error::fatal(Origin::Source, codes::SERVER_BEHIND, message)
    } else {
        Error::transient(Origin::Source, codes::SERVER_BEHIND, message)
    };
    error.with_remedy(format!(
        "compare with `SELECT @@GLOBAL.{variable}`: where a replica is behind, wait; else bring the target in \
         step with the tables and begin under another connector name (with jsonl another `dir` too), or, where \
         nothing drops events by their id, at the log's end (`rowtide position adopt --connector NAME`)"
    ))
}

/// What the server need not send: all that was handed over, but for what is only prepared.
fn without_pending(passed: &GtidSet, position: &MyPosition) -> Result<GtidSet> {
    let mut set = passed.clone();
    for pending in &position.pending {
        let one: GtidSet =
            pending.id.parse().map_err(|_| unreadable("an XA transaction's GTID"))?;
        set.remove_all(&one);
    }
    Ok(set)
}

/// What the server is to send from. Where the file `is_there` that the position knows more of than its
/// name, from there also with GTIDs: after a reset of the log they name other transactions, which the
/// file alone tells.
pub(crate) fn start(position: &MyPosition, passed: &Passed, is_there: bool) -> Result<Start> {
    Ok(match passed {
        _ if is_there && position.pending.is_empty() && !position.by_gtids => {
            Start::File { name: position.file.clone(), position: position.pos }
        }
        Passed::Files => {
            let first = position.pending.first();
            let (file, pos) = first
                .map_or((&position.file, position.pos), |pending| (&pending.file, pending.pos));
            Start::File { name: file.clone(), position: pos }
        }
        Passed::Mysql(set) => Start::Gtids(without_pending(set, position)?),
        Passed::Mariadb(passed) => {
            let mut from = passed.clone();
            // The first of a domain counts: it is before the others.
            for pending in position.pending.iter().rev() {
                let gtid = pending.id.parse::<crate::gtid::mariadb::Gtid>();
                let gtid = gtid.map_err(|_| unreadable("an XA transaction's GTID"))?;
                from.forget(gtid.domain);
                if let Some(after) = &pending.after {
                    from.pass(after.parse().map_err(|_| unreadable("a GTID"))?);
                }
            }
            Start::MariaDbGtids(from)
        }
    })
}
