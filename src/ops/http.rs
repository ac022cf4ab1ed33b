//! The HTTP endpoint for operators and their monitoring: read-only, without secrets and without row
//! values, off unless configured.
//!
//! | Path | Answer |
//! |------|--------|
//! | `/metrics` | metrics in Prometheus' text format |
//! | `/status` | the same and more, as one JSON document |
//! | `/ready` | 200 while every connector reads its log, else 503; each connector's state as text |
//! | `/live` | 200 while no connector's thread hangs, else 503 |

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HOST};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::board::Board;
use super::metrics;
use super::status::Status;

/// Connections served at a time. One more ends the oldest, so that forgotten ones keep no probe waiting.
const CONNECTIONS_MAX: usize = 64;
/// How long a request's head may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one connection may live, so that a forgotten one does not hold its place.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a pause follows when no connection can be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// How long [`get`] waits for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// An answer that [`get`] takes at most, in bytes.
const ANSWER_MAX: usize = 16 * 1024 * 1024;

/// Serves the board for ever.
pub async fn serve(listener: TcpListener, board: Arc<Board>) {
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: it passes.
                tracing::debug!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        open.retain(|connection| !connection.is_finished());
        if open.len() >= CONNECTIONS_MAX
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let served = timeout(CONNECTION_TIMEOUT, converse(stream, Arc::clone(&board)));
        open.push_back(tokio::spawn(served).abort_handle());
    }
}

async fn converse(stream: TcpStream, board: Arc<Board>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer(request.method(), request.uri().path(), &board);
        async move { Ok::<_, Infallible>(answer) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the ops endpoint broke");
    }
}

/// The answer to one request.
fn answer(method: &Method, path: &str, board: &Board) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here\n".into());
        refusal.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    match path {
        "/metrics" => respond(StatusCode::OK, metrics::CONTENT_TYPE, metrics::render(board)),
        "/status" => match serde_json::to_string(&Status::of(board)) {
            Ok(json) => respond(StatusCode::OK, "application/json", json),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        },
        "/ready" => text(health(board.is_ready()), states(board)),
        "/live" => text(health(board.is_live()), states(board)),
        "/" => text(StatusCode::OK, "/metrics /status /ready /live\n".to_owned()),
        _ => text(StatusCode::NOT_FOUND, "not found: /metrics /status /ready /live\n".to_owned()),
    }
}

fn health(is_good: bool) -> StatusCode {
    if is_good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// One line per connector: its name, its state, and the code of the error behind it.
fn states(board: &Board) -> String {
    let mut text = String::new();
    for connector in board.connectors() {
        let phase = connector.phase();
        let code = phase.trouble().map(|trouble| trouble.code).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{} {} {code}", connector.name(), phase.name());
    }
    text
}

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", text)
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// Asks another process's endpoint for `path`; the body of its answer.
///
/// # Errors
/// In words, where there is no good answer within a few seconds.
pub async fn get(address: SocketAddr, path: &str) -> Result<String, String> {
    match timeout(ANSWER_TIMEOUT, fetch(address, path)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())),
    }
}

async fn fetch(address: SocketAddr, path: &str) -> Result<String, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| words(&error))?;
    let request = Request::get(path)
        .header(HOST, address.to_string())
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| words(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        if status != StatusCode::OK {
            return Err(format!("the answer is {status}"));
        }
        String::from_utf8(body.to_vec()).map_err(|error| error.to_string())
    };
    tokio::select! {
        answer = exchange => answer,
        ended = connection => Err(ended.map_or_else(|error| words(&error), |()| "the connection ended".to_owned())),
    }
}

fn words(error: &hyper::Error) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use rowtide_sdk::{Code, Error, Origin};

    use super::*;

    #[tokio::test]
    async fn the_board_is_served_and_asked() {
        let board = Arc::new(Board::new([("shop", "postgres", "kafka")]));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, Arc::clone(&board)));
        assert!(get(address, "/live").await.unwrap().contains("shop starting"));
        assert!(get(address, "/ready").await.unwrap_err().contains("503"));
        board.connectors()[0].report().streaming();
        assert!(get(address, "/ready").await.unwrap().contains("shop streaming"));
        let metrics = get(address, "/metrics").await.unwrap();
        assert!(metrics.contains("# TYPE rowtide_events_total counter"), "{metrics}");
        let status: Status = serde_json::from_str(&get(address, "/status").await.unwrap()).unwrap();
        assert!(status.ready);
        assert!(get(address, "/etc").await.unwrap_err().contains("404"));
        let gone = Error::fatal(Origin::Source, Code("RT2204"), "gone");
        board.connectors()[0].ends(&Err(gone));
        assert!(states(&board).contains("shop failed RT2204"));
        let refused = answer(&Method::POST, "/status", &board);
        assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED);
    }

    #[tokio::test]
    async fn idle_connections_keep_no_probe_waiting() {
        let board = Arc::new(Board::new([("shop", "postgres", "kafka")]));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, board));
        let mut idle = Vec::new();
        for _ in 0..3 * CONNECTIONS_MAX {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        let answer = timeout(HEAD_TIMEOUT / 2, get(address, "/live")).await;
        assert!(answer.expect("it is answered before they time out").is_ok());
    }
}
