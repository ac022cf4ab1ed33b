//! The kit itself: a server starts, answers, is halted and resumed, and is gone after drop.

use rowtide_testkit::{Kafka, Postgres};

#[tokio::test]
async fn a_postgres_starts_answers_resumes_and_is_gone_after_drop() {
    let Some(mut server) = Postgres::start("15", &["max_wal_senders=4"]) else { return };
    let row = server.client("postgres").await.query_one("SHOW max_wal_senders", &[]).await;
    assert_eq!(row.unwrap().get::<_, String>(0), "4");
    let (first, folder) = (server.pid(), server.folder().to_owned());
    server.halt(true);
    server.resume();
    assert_ne!(server.pid(), first);
    server.client("postgres").await.simple_query("SELECT 1").await.unwrap();
    drop(server);
    assert!(!folder.exists());
}

#[test]
fn a_kafka_starts_and_is_gone_after_drop() {
    let Some(broker) = Kafka::start(&[]) else { return };
    std::net::TcpStream::connect(broker.brokers()).unwrap();
    let (address, folder) = (broker.brokers().to_owned(), broker.folder().to_owned());
    drop(broker);
    assert!(std::net::TcpStream::connect(address).is_err());
    assert!(!folder.exists());
}
