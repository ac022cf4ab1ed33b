//! Single things that a random run may not come across: each is made to happen, and watched.

use super::super::session::SessionEnd;
use super::*;

fn world(sink_holds: bool) -> World {
    World { rng: fastrand::Rng::with_seed(7), sink_holds, ..World::default() }
}

/// Runs once, asking for a stop after `life`.
async fn live(world: &Shared, state: &std::path::Path, life: Duration) -> SessionEnd {
    let shutdown = CancellationToken::new();
    let job = job(world, state, &shutdown);
    let stop = async {
        tokio::time::sleep(life).await;
        shutdown.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        end = session::run(&job) => end,
        () = stop => unreachable!("the stop never ends"),
    }
}

/// Without faults, stop after stop: what was submitted is committed, so nothing comes twice.
#[test]
fn a_clean_stop_commits_everything() {
    for sink_holds in [false, true] {
        on_paused_clock(async move {
            let state = tempfile::tempdir().unwrap();
            let world = Arc::new(Mutex::new(world(sink_holds)));
            for life in 5..40 {
                let end = live(&world, state.path(), Duration::from_millis(life)).await;
                assert!(end.result.is_ok());
                let saved = saved(&world, state.path());
                let saved = saved.map_or(0, |saved| saved.position.as_str().parse().unwrap());
                assert_eq!(world.lock().unwrap().told, saved, "told before it is let go");
            }
            let end = live(&world, state.path(), Duration::from_secs(3)).await;
            assert!(end.result.is_ok());
            let published = world.lock().unwrap().published.clone();
            let events = published.iter().filter(|value| !is_schema_change(value));
            assert_eq!(events.count(), captured(), "no repeats");
            check(&world.lock().unwrap());
            check_saved(&world, state.path());
        });
    }
}

/// Nobody asks for a stop: what came last is flushed, saved and told all the same.
#[test]
fn a_quiet_log_is_committed_without_a_stop() {
    for (seed, sink_holds) in (0..30).flat_map(|seed| [(seed, false), (seed, true)]) {
        on_paused_clock(async move {
            let state = tempfile::tempdir().unwrap();
            let world = World { rng: fastrand::Rng::with_seed(seed), ..world(sink_holds) };
            let world = Arc::new(Mutex::new(world));
            let job = job(&world, state.path(), &CancellationToken::new());
            let killed = tokio::time::timeout(Duration::from_secs(5), session::run(&job)).await;
            assert!(killed.is_err(), "it ran until it was killed");
            check(&world.lock().unwrap());
            check_saved(&world, state.path());
        });
    }
}

/// The error of one delivery ends the run, long before anybody asks for a stop: while the log goes
/// on, and when the batch was the last.
#[test]
fn a_failed_delivery_ends_the_run() {
    let last = (0..TOTAL).rev().find(|number| !is_filtered(*number)).unwrap();
    for fails_at in [TOTAL / 2, last] {
        on_paused_clock(async move {
            let state = tempfile::tempdir().unwrap();
            let world = Arc::new(Mutex::new(World { fails_at: Some(fails_at), ..world(false) }));
            let hour = Duration::from_secs(3600);
            let started = tokio::time::Instant::now();
            let end = live(&world, state.path(), hour).await;
            assert_eq!(end.result.unwrap_err().message(), "the delivery failed");
            assert!(started.elapsed() < Duration::from_secs(30));
            assert!(end.has_progressed, "what came before is saved");
            assert!(world.lock().unwrap().told <= fails_at);
            let end = live(&world, state.path(), Duration::from_secs(5)).await;
            assert!(end.result.is_ok() && end.has_progressed);
            check(&world.lock().unwrap());
            check_saved(&world, state.path());
            let end = live(&world, state.path(), Duration::from_secs(5)).await;
            assert!(end.result.is_ok() && !end.has_progressed, "there was nothing to do");
        });
    }
}

/// A position that cannot be saved is not told, and ends the run.
#[test]
fn a_failed_save_ends_the_run() {
    on_paused_clock(async {
        let state = tempfile::tempdir().unwrap();
        let world = Arc::new(Mutex::new(world(false)));
        let in_the_way = state.path().join("shop.json.tmp");
        std::fs::create_dir(&in_the_way).unwrap();
        let started = tokio::time::Instant::now();
        let end = live(&world, state.path(), Duration::from_secs(3600)).await;
        assert_eq!(end.result.unwrap_err().code(), Code("RT4001"));
        assert!(started.elapsed() < Duration::from_secs(30));
        assert!(!end.has_progressed);
        assert_eq!(world.lock().unwrap().told, 0);
        std::fs::remove_dir(&in_the_way).unwrap();
        assert!(live(&world, state.path(), Duration::from_secs(5)).await.result.is_ok());
        check(&world.lock().unwrap());
        check_saved(&world, state.path());
    });
}

/// A full disk is waited for: nothing is told or repeated, and what may come twice after a crash does
/// not grow meanwhile.
#[test]
fn a_full_disk_is_waited_for() {
    on_paused_clock(async {
        let state = tempfile::tempdir().unwrap();
        let world = Arc::new(Mutex::new(world(false)));
        let full = state.path().join("shop.json.tmp");
        std::os::unix::fs::symlink("/dev/full", &full).unwrap();
        let room = async {
            tokio::time::sleep(Duration::from_secs(40)).await;
            let sent = world.lock().unwrap().published.len();
            tokio::time::sleep(Duration::from_secs(40)).await;
            assert_eq!(world.lock().unwrap().told, 0);
            assert_eq!(world.lock().unwrap().published.len(), sent, "nothing more is sent");
            assert!(sent < captured());
            std::fs::remove_file(&full).unwrap();
        };
        let (end, ()) = tokio::join!(live(&world, state.path(), Duration::from_secs(300)), room);
        assert!(end.result.is_ok() && end.has_progressed);
        let published = world.lock().unwrap().published.clone();
        let events = published.iter().filter(|value| !is_schema_change(value));
        assert_eq!(events.count(), captured(), "no repeats");
        check(&world.lock().unwrap());
        check_saved(&world, state.path());
    });
}

/// A sink that answers nothing is given no more than the connector's share of the memory (A7).
#[test]
fn what_is_in_flight_is_bounded() {
    on_paused_clock(async {
        let state = tempfile::tempdir().unwrap();
        let padding = 8 * 1024;
        let world = Arc::new(Mutex::new(World { padding, stalls: true, ..world(false) }));
        assert!(captured() * padding > 1 << 20, "the log is larger than the memory");
        let _killed = tokio::time::timeout(
            Duration::from_secs(60),
            live(&world, state.path(), Duration::MAX),
        )
        .await;
        let bytes: usize = world.lock().unwrap().published.iter().map(String::len).sum();
        assert!(bytes > 1 << 18 && bytes <= 1 << 20, "{bytes} bytes are in flight");
        assert_eq!(world.lock().unwrap().told, 0);
    });
}
