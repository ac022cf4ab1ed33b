//! The source: from a configuration to a running stream.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rowtide_sdk::{
    Batch, BoxFuture, Claims, Class, Error, Finding, Hiding, LogStart, Note, Origin, Position,
    Result, Source, SourceContext, SourceInfo, TableFilter, TableReview, on_own_thread,
};
use rowtide_spool::{Folder, Remedies};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tracing::Instrument as _;

use crate::binary;
use crate::config::{
    ConnectOptions, Operation, OriginFilter, PostgresConfig, PublicationManagement, Streaming,
};
use crate::describe;
use crate::error::{codes as refusals, good_before};
use crate::family::{Family, note_all};
use crate::guard::{Guard, Memory};
use crate::lsn::Lsn;
use crate::message::MessageRules;
use crate::position::{History, PgPosition, Renderer, write_position};
use crate::preflight::inherited;
use crate::publication::{self, Imprint, Members, Review};
use crate::reselect::Reselector;
use crate::server::{self, Server};
use crate::slot::{self, Slot};
use crate::sql::{Sql, ident};
use crate::stream::{self, Progress, Pulse, Session, Tables, codes};
use crate::wire::{Cancel, ReplicationConnection, SqlClient, sql_client};

/// How often the publication is brought in step with the tables.
const RECONCILE_EVERY: Duration = Duration::from_secs(60);

/// What to do about streamed transactions that the disk has no room for.
const SPOOL_REMEDIES: Remedies = Remedies {
    disk_full: "free space on the disk, or set `spool.dir` to a folder on a larger one; with \
                `streaming: off` the server keeps open transactions on its own disk",
    limit: "raise `spool.max`, end the transaction in the database, or set `streaming: off`, with \
            which the server keeps open transactions on its own disk",
};

/// A PostgreSQL database read by logical replication.
#[derive(Debug, Clone)]
pub struct PostgresSource {
    pub(crate) config: PostgresConfig,
    pub(crate) options: ConnectOptions,
    pub(crate) filter: TableFilter,
    pub(crate) reconcile_every: Duration,
    /// What the guards of all runs share.
    pub(crate) memory: Memory,
}

/// The constant facts of PostgreSQL sources.
pub fn info() -> SourceInfo {
    SourceInfo { connector: "postgres", write_position }
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

impl PostgresSource {
    /// A source that has not connected yet. `folder` is the folder that relative paths of files in
    /// the settings start from.
    ///
    /// # Errors
    /// Fatal: the first problem of the settings. [`PostgresConfig::problems`] gives all of them.
    pub fn new(config: PostgresConfig, folder: &Path) -> Result<Self> {
        let options = config.connect_options(folder).map_err(first)?;
        let filter = config.tables.filter().map_err(first)?;
        let memory = Memory::default();
        Ok(Self { config, options, filter, reconcile_every: RECONCILE_EVERY, memory })
    }

    /// How often the publication is brought in step with the tables; a minute by default.
    #[must_use]
    pub fn reconcile_every(self, time: Duration) -> Self {
        Self { reconcile_every: time.max(Duration::from_millis(1)), ..self }
    }

    /// A text for what only one connector may use, as far as the settings tell, without secrets: the slot,
    /// and a publication that is kept in step with the tables.
    pub fn resources(&self) -> Vec<String> {
        let PostgresConfig { slot, publication, publication_management, .. } = &self.config;
        let database = format!("postgres/{}/{}", self.options.places(), self.options.database);
        let mut resources = vec![format!("{database}/{slot}")];
        if *publication_management == PublicationManagement::Auto {
            resources.push(format!("{database}/publication {publication}"));
        }
        resources
    }

    /// The slot as one connector's property, whatever the address it is reached at.
    pub(crate) fn claimed(&self, history: &History) -> String {
        format!("postgres/{}/{}/{}", history.system, history.database, self.config.slot)
    }

    /// Claims what only one connector may use: the slot, and a publication that it keeps in step with
    /// its own tables.
    pub(crate) fn claim(
        &self,
        claims: &dyn Claims,
        history: &History,
        server: &Server,
    ) -> Result<()> {
        claims.claim(&self.claimed(history))?;
        if self.management(server) == PublicationManagement::External {
            return Ok(());
        }
        let History { system, database, .. } = history;
        let name = &self.config.publication;
        claims.claim(&format!("postgres/{system}/{database}/publication {name}"))
    }

    /// Who looks after the publication: on a standby nothing can be changed.
    pub(crate) fn management(&self, server: &Server) -> PublicationManagement {
        if server.in_recovery {
            PublicationManagement::External
        } else {
            self.config.publication_management
        }
    }

    /// What the settings ask of the publication.
    pub(crate) fn wish(&self, server: &Server, is_resumed: bool) -> publication::Wish<'_> {
        publication::Wish {
            name: &self.config.publication,
            management: self.management(server),
            filter: &self.filter,
            operations: &self.config.publication_operations,
            major: server.major(),
            in_recovery: server.in_recovery,
            role: &self.options.user,
            slot: &self.config.slot,
            is_resumed,
        }
    }

    /// A fingerprint of what shapes the raw sequence of changes. Streaming does not: the same changes
    /// are counted alike.
    pub(crate) fn fingerprint(&self) -> String {
        let mut shape = format!("pgoutput proto_version=1 publication={}", self.config.publication);
        // Only what was asked for is named: positions of those who did not ask stay what they were.
        if self.config.messages.is_some() {
            shape.push_str(" messages=true");
        }
        if self.config.origin == OriginFilter::None {
            shape.push_str(" origin=none");
        }
        Sha256::digest(shape).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether transactions are to be sent before their end.
    fn streams(&self) -> bool {
        self.config.streaming == Streaming::On && !self.memory.is_unstreamed()
    }

    fn start_command(&self, from: Lsn, is_binary: bool) -> String {
        // Within the option the name is an identifier, and the option is a literal in which only
        // quotes are doubled.
        let publication = ident(&self.config.publication).replace('\'', "''");
        let messages = if self.config.messages.is_some() { ", messages 'true'" } else { "" };
        let binary = if is_binary { ", binary 'true'" } else { "" };
        let origin = match self.config.origin {
            OriginFilter::Any => "",
            OriginFilter::None => ", origin 'none'",
        };
        let version = if self.streams() {
            // Later versions bring two-phase commit, and streams that several workers apply.
            "proto_version '2', streaming 'on'"
        } else {
            "proto_version '1'"
        };
        format!(
            "START_REPLICATION SLOT {} LOGICAL {from} \
             ({version}, publication_names '{publication}'{messages}{origin}{binary})",
            ident(&self.config.slot)
        )
    }

    /// What to do with messages, where the settings ask for them.
    fn message_rules(&self) -> Result<Option<MessageRules>> {
        let Some(selection) = &self.config.messages else { return Ok(None) };
        let filter = selection.filter().map_err(first)?;
        let database = &self.options.database;
        Ok(Some(MessageRules::new(filter, selection.annotations, database)))
    }

    fn reselector(&self, cx: &SourceContext) -> Reselector {
        // Without inserts, or without what replication brings in, a row may become another unseen.
        let follows = self.config.publication_operations.contains(&Operation::Insert)
            && self.config.origin == OriginFilter::Any;
        let (options, reselection) = (self.options.clone(), Arc::clone(&cx.reselection));
        Reselector::new(options, reselection, cx.limits, follows)
    }

    /// The topic of messages, where they become events; `{name}` stands for the connector.
    pub fn message_topic(&self) -> Option<&str> {
        let selection = self.config.messages.as_ref().filter(|all| !all.include.is_empty())?;
        Some(&selection.topic)
    }

    /// What the settings ask of the server and it does not know.
    ///
    /// # Errors
    /// `RT2320`, fatal.
    pub(crate) fn check_abilities(&self, server: &Server) -> Result<()> {
        if self.config.origin == OriginFilter::Any || server.major() >= 16 {
            return Ok(());
        }
        Err(Error::fatal(
            Origin::Source,
            codes::ORIGIN_UNKNOWN,
            format!(
                "`origin: none` needs PostgreSQL 16 or newer; the server is PostgreSQL {}",
                server.major()
            ),
        )
        .with_remedy(
            "leave `origin` out, and use `source.origin` of the events to tell them apart",
        ))
    }

    /// Whether the server can be used at all; does without streaming where it cannot be relied on for that.
    fn fit(&self, server: &Server) -> Result<()> {
        if let Some(obstacle) = server.obstacles().into_iter().next() {
            return Err(obstacle);
        }
        self.check_abilities(server)?;
        if self.streams() && !server.streams_rightly() {
            tracing::warn!(code = %codes::NOT_STREAMED, "{}", server::NOT_STREAMED_BY_14);
            self.memory.set_unstreamed();
        }
        Ok(())
    }

    /// The folder for streamed transactions, where they are asked for. Only who holds the slot may
    /// empty it.
    fn spool(&self, cx: &SourceContext) -> Result<Option<Folder>> {
        if !self.streams() {
            return Ok(None);
        }
        let dir = self.spool_dir(&cx.name).unwrap_or_else(|| cx.scratch.clone());
        Folder::open(dir, self.config.spool.max.map(|max| max.0), SPOOL_REMEDIES).map(Some)
    }

    /// Where a connector sets streamed transactions aside, where the settings say.
    fn spool_dir(&self, name: &str) -> Option<PathBuf> {
        self.config.spool.dir.as_ref().map(|dir| dir.join(name))
    }

    /// Whether the folder for streamed transactions could be made and written to, where they are asked for.
    ///
    /// # Errors
    /// `RT2302`, fatal.
    pub(crate) fn check_spool(&self, name: &str, scratch: Option<&Path>) -> Result<()> {
        let dir = self.spool_dir(name).or_else(|| scratch.map(Path::to_owned));
        match dir.filter(|_| self.streams()) {
            Some(dir) => Folder::check(&dir, SPOOL_REMEDIES),
            None => Ok(()),
        }
    }
}

impl Source for PostgresSource {
    fn info(&self) -> SourceInfo {
        info()
    }

    fn spools(&self) -> bool {
        self.config.streaming == Streaming::On
    }

    fn run(self: Box<Self>, cx: SourceContext) -> BoxFuture<'static, Result<()>> {
        let work = run(*self, cx).instrument(tracing::Span::current());
        Box::pin(on_own_thread("postgres", codes::THREAD, work))
    }
}

async fn run(source: PostgresSource, mut cx: SourceContext) -> Result<()> {
    let shutdown = cx.shutdown.clone();
    let report = cx.report.clone();
    let memory = source.memory.clone();
    let streams = source.streams();
    let (creates, creation) = watch::channel(None);
    let opened = tokio::select! {
        biased;
        () = shutdown.cancelled() => {
            call_off(&creation).await;
            return Ok(());
        }
        opened = Box::pin(open(source, &mut cx, creates)) => opened,
    };
    let refused = |error| if report.has_streamed() { good_before(error) } else { error };
    let (session, guard) = opened.map_err(refused)?;
    report.streaming();
    let ended = tokio::select! {
        ended = Box::pin(stream::run(session, cx)) => ended,
        error = Box::pin(guard.run()) => Err(error),
    };
    if ended.as_ref().is_err_and(|error| error.code() == codes::NOT_IN_BINARY) {
        memory.set_text_only();
    }
    if ended.as_ref().is_err_and(|error| error.code() == codes::NOT_STREAMED) {
        if !streams {
            return ended.map_err(|error| error.with_class(Class::Fatal));
        }
        memory.set_unstreamed();
    }
    ended
}

/// Ends the creation of a slot that is under way. Left alone the server goes on with it, and the next
/// start finds a slot that somebody else seems to read.
async fn call_off(creation: &watch::Receiver<Option<Cancel>>) {
    let Some(cancel) = creation.borrow().clone() else { return };
    match cancel.send().await {
        Ok(()) => tracing::info!("the creation of the replication slot was called off"),
        Err(error) => tracing::warn!(
            code = error.code().0,
            %error,
            "the creation of the replication slot could not be called off: the server goes on with it \
             until its time is over"
        ),
    }
}

/// Connects, verifies and prepares everything, and starts the stream and its guard. `creates` holds how
/// to call off the creation of a slot while it is under way.
async fn open(
    mut source: PostgresSource,
    cx: &mut SourceContext,
    creates: watch::Sender<Option<Cancel>>,
) -> Result<(Session, Guard)> {
    let mut connection = ReplicationConnection::connect(&source.options).await?;
    // Whatever is asked from here on is asked of the same server.
    source.options = connection.options().clone();
    let source = &source;
    let server = Server::ask(&mut connection).await?;
    source.fit(&server)?;
    let history = server::history(connection.identity(), &server);
    let resume = resumed_in(cx.resume.as_ref(), &mut connection, &history).await?;
    let slot = slot::find(&mut connection, &source.config.slot).await?;
    check_slot(source, &mut connection, slot.as_ref(), resume.as_ref(), &server).await?;
    source.claim(&*cx.claims, &history, &server)?;
    note_all(Family::new(cx).as_ref(), &mut connection, &source.filter).await?;
    let review = Reviewing::of(cx, slot.is_none());
    let published = publish(source, &server, resume.is_some(), review, &cx.note).await?;

    let stream = source.fingerprint();
    let renderer = Renderer::new(&history, &source.config.slot, &stream)?;
    let progress = match &resume {
        Some(position) => resumed(position, &stream),
        None => {
            let from = first_lsn(source, &mut connection, slot.as_ref(), &server, &creates).await?;
            save_first(cx, &renderer, from, &history).await?;
            Progress::new(from, None)
        }
    };
    let is_binary = published.is_binary;
    connection.size_decoding(source.streams()).await?;
    let (reader, writer) =
        connection.start_replication(&source.start_command(progress.place().0, is_binary)).await?;
    let folder = source.spool(cx)?;
    tracing::info!(
        lsn = %progress.place().0,
        slot = source.config.slot,
        publication = source.config.publication,
        tables = publication::sent(&published.members),
        binary = is_binary,
        streamed = source.streams(),
        "streaming"
    );
    let filter = source.filter.clone();
    let (rename, renamed) = watch::channel(None);
    let pulse = Pulse::default();
    let session = Session {
        reader,
        writer,
        progress,
        reselector: source.reselector(cx),
        renderer,
        filter: Box::new(move |schema, table| filter.matches(schema, table)),
        messages: source.message_rules()?,
        tables: Tables::new(source.options.clone(), &cx.known_tables, is_binary, Family::new(cx)),
        wal_sender_timeout: server.wal_sender_timeout(),
        pulse: pulse.clone(),
        renamed,
        folder,
    };
    let guard = Guard {
        source: source.clone(),
        imprint: published.imprint,
        note: cx.note.clone(),
        found: published.findings,
        pulse,
        report: cx.report.clone(),
        history,
        in_recovery: server.in_recovery,
        renderer: rename,
        hidden: Family::new(cx),
    };
    Ok((session, guard))
}

/// The saved position, where there is one, in the history of the server.
async fn resumed_in(
    saved: Option<&Position>,
    connection: &mut ReplicationConnection,
    history: &History,
) -> Result<Option<PgPosition>> {
    let resume = saved.map(PgPosition::parse).transpose()?;
    if let Some(position) = &resume {
        let flushed = connection.identity().flushed.clone();
        server::check_history(connection, position, history, &flushed).await?;
    }
    Ok(resume)
}

/// A look at the tables when a run begins.
struct Reviewing {
    review: TableReview,
    /// Whether the slot is yet to be made, so that the log is read from now on.
    is_new: bool,
    hiding: Option<Hiding>,
}

impl Reviewing {
    /// Where there is something to review.
    fn of(cx: &mut SourceContext, lacks_slot: bool) -> Option<Self> {
        let review = cx.review.take()?;
        Some(Self { review, is_new: cx.resume.is_none() && lacks_slot, hiding: cx.hiding.clone() })
    }

    /// Tells the host of the tables, and the operator of those that inherit.
    async fn look(
        self,
        source: &PostgresSource,
        client: &SqlClient,
        server: &Server,
    ) -> Result<()> {
        let log = if self.is_new { LogStart::Now } else { LogStart::Earlier };
        (self.review)(&describe::described(source, client).await?, log)?;
        if let Some(hiding) = self.hiding {
            let found = inherited::findings(&mut &**client, source, server, &hiding).await?;
            publication::report(&found)?;
        }
        Ok(())
    }
}

async fn check_slot(
    source: &PostgresSource,
    sql: &mut impl Sql,
    slot: Option<&Slot>,
    resume: Option<&PgPosition>,
    server: &Server,
) -> Result<()> {
    match (slot, resume) {
        (None, Some(position)) => return Err(slot::gone(&source.config.slot, position, server)),
        (None, None) => return server.check_slot_room(),
        (Some(slot), _) => {
            slot.check_kind(server)?;
            if let Some(position) = resume {
                slot.check_position(position)?;
            }
            slot.check_free(sql).await?;
        }
    }
    Ok(())
}

/// Creates the publication or brings it in step, before there is a slot: decoding looks the
/// publication up as of each change, and cannot pass log written before it existed.
///
/// On a connection of its own: the server's process caches how the tables it was asked about look
/// now, and would describe changes from before an ALTER by it.
///
/// With a look that an earlier run noted it says what was not sent in between.
async fn publish(
    source: &PostgresSource,
    server: &Server,
    is_resumed: bool,
    review: Option<Reviewing>,
    note: &Note,
) -> Result<Published> {
    let client = sql_client(&source.options).await?;
    let mut sql = &*client;
    let wish = source.wish(server, is_resumed);
    let mut found = publication::look(&mut sql, wish).await?;
    publication::report(&found.findings)?;
    if let Some(review) = review {
        review.look(source, &client, server).await?;
    }
    let before = note.get().filter(|_| is_resumed).and_then(|json| Imprint::from_json(&json));
    if let Some(before) = &before {
        publication::tell_gaps(&mut sql, before, &found).await?;
    }
    let applied = publication::apply(&mut sql, wish, &mut found, !is_resumed).await;
    if let Some(imprint) = &found.imprint {
        note.set(imprint.to_json());
    }
    if let Err(error) = applied {
        // What it sends already goes on, as it does where the same fails beside the stream.
        if !is_resumed || client.is_closed() || found.plan.comes_first() {
            return Err(error);
        }
        tracing::warn!(
            code = %error.code(),
            %error,
            "the publication could not be brought in step; what it sends is streamed, and it is tried \
             again every minute"
        );
    }
    let is_binary = binary::is_wanted(source, &client, server.major()).await?;
    let Review { members, findings, imprint, .. } = found;
    Ok(Published { members, findings, imprint, is_binary })
}

/// What is known of the publication once it is in step.
struct Published {
    /// How each table is sent.
    members: Members,
    findings: Vec<Finding>,
    /// How it stands.
    imprint: Option<Imprint>,
    /// Whether values are best sent in binary.
    is_binary: bool,
}

fn resumed(position: &PgPosition, stream: &str) -> Progress {
    if let Some(in_tx) = position.in_tx.filter(|_| position.stream != stream) {
        tracing::warn!(
            commit_lsn = %in_tx.commit,
            changes = in_tx.next_index,
            "the publication's name, `messages` or `origin` changed inside a transaction: the \
             transaction is repeated from its start"
        );
    }
    Progress::resume(position, stream)
}

/// Where a stream without a saved position starts: at the slot's confirmed LSN, or where a new slot
/// begins.
async fn first_lsn(
    source: &PostgresSource,
    connection: &mut ReplicationConnection,
    slot: Option<&Slot>,
    server: &Server,
    creates: &watch::Sender<Option<Cancel>>,
) -> Result<Lsn> {
    let name = &source.config.slot;
    if let Some(slot) = slot {
        let confirmed = slot.confirmed()?;
        tracing::warn!(
            code = codes::SLOT_WITHOUT_POSITION.0,
            slot = name,
            lsn = %confirmed,
            "the slot existed and there is no saved position: starting at the slot's confirmed LSN; \
             changes before it were confirmed by someone else and are not captured"
        );
        return Ok(confirmed);
    }
    creates.send_replace(connection.cancel());
    let patience = 3 * source.options.connect_timeout;
    let mut creation = Box::pin(slot::create(connection, name, server, patience));
    let created = tokio::select! {
        created = &mut creation => created,
        () = slot::tell_of_wait(&source.options, name, server, patience) => creation.await,
    };
    creates.send_replace(None);
    let lsn = created?;
    tracing::info!(slot = name, %lsn, "replication slot created");
    Ok(lsn)
}

/// Has the first position saved, so that a slot never stands without one for long.
async fn save_first(
    cx: &mut SourceContext,
    renderer: &Renderer,
    from: Lsn,
    history: &History,
) -> Result<()> {
    let position = renderer.position(from, None);
    let batch = Batch { resume: Some(position.clone()), ..Batch::default() };
    let is_saved = |saved: &Option<Position>| saved.as_ref() == Some(&position);
    cx.out.send(batch).await.map_err(|_| stream::host_gone())?;
    cx.committed.wait_for(is_saved).await.map_err(|_| stream::host_gone())?;
    tracing::info!(lsn = %from, %history, "the first position is saved");
    Ok(())
}
