//! A thread for a source.

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::error::{Code, Error, Origin, Result};

/// Does a source's work on a thread and a runtime of its own, so that it can pause for less than a
/// timer's resolution, and read and write files, without holding anyone else up. Dropped, the future has
/// the thread end at its next await.
///
/// # Errors
/// What the work gives; with `code`, transient, where the system has no thread for it.
pub async fn on_own_thread(
    name: &str,
    code: Code,
    work: impl Future<Output = Result<()>> + Send + 'static,
) -> Result<()> {
    let refused = |error: std::io::Error| {
        Error::transient(Origin::Host, code, "the source cannot have a thread of its own")
            .with_source(error)
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(refused)?;
    let abandoned = CancellationToken::new();
    let _guard = abandoned.clone().drop_guard();
    let (ended, end) = oneshot::channel();
    let work = async move {
        tokio::select! {
            biased;
            () = abandoned.cancelled() => {}
            result = work => { let _ = ended.send(result); }
        }
    };
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || runtime.block_on(work))
        .map_err(refused)?;
    end.await.map_err(|_| {
        Error::transient(Origin::Host, code, "the source's thread ended without a result")
    })?
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const CODE: Code = Code("RT0000");

    #[tokio::test]
    async fn what_the_work_gives_comes_back() {
        let name = async { std::thread::current().name().map(str::to_owned) };
        let work = async move {
            assert_eq!(name.await.as_deref(), Some("mine"));
            Err(Error::fatal(Origin::Source, CODE, "as told"))
        };
        let error = on_own_thread("mine", CODE, work).await.unwrap_err();
        assert_eq!(error.message(), "as told");
    }

    #[tokio::test]
    async fn the_thread_ends_with_the_future() {
        let (dropped, seen) = oneshot::channel::<()>();
        let work = async move {
            let _dropped = dropped;
            std::future::pending().await
        };
        let run = on_own_thread("mine", CODE, work);
        let cut = tokio::time::timeout(Duration::from_millis(50), run).await;
        assert!(cut.is_err());
        let ended = tokio::time::timeout(Duration::from_secs(10), seen).await;
        assert!(ended.unwrap().is_err(), "the other half is gone");
    }

    #[tokio::test]
    async fn a_panic_is_an_error() {
        let work = async { panic!("planted") };
        let error = on_own_thread("mine", CODE, work).await.unwrap_err();
        assert_eq!(error.code(), CODE);
    }
}
