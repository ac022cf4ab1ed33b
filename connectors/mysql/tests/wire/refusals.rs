//! What refuses, and what only answers as if.

use super::*;

#[tokio::test]
async fn refusals_have_their_codes() {
    for flavor in Flavor::ALL {
        let Some(server) = Mysql::start(flavor, &[]) else { return };
        let port = server.port();
        server.sql(
            "CREATE USER poor@'%' IDENTIFIED BY 'geheim';
             CREATE USER gone@'%' IDENTIFIED BY 'geheim' ACCOUNT LOCK;
             CREATE USER old@'%' IDENTIFIED BY 'geheim' PASSWORD EXPIRE;
             CREATE USER far@'10.0.0.1' IDENTIFIED BY 'geheim'",
        );
        let url = |user: &str| format!("mysql://{user}:geheim@127.0.0.1:{port}/");
        refused(&url("gone"), "RT2604", Class::Fatal).await;
        // MariaDB lets it in, and then refuses all but the change.
        let error = match BinlogConnection::connect(&options(&url("old"))).await {
            Ok(mut connection) => connection.execute("SELECT 1").await.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!((error.code().0, error.class()), ("RT2609", Class::Fatal), "{error}");
        refused(&url("far"), "RT2604", Class::Fatal).await;
        refused(&format!("{}nosuchdb", server.url()), "RT2610", Class::Fatal).await;

        let poor = BinlogConnection::connect(&options(&url("poor"))).await.unwrap();
        let error = poor.dump(&Dump::new(7, end_of_log(&server, flavor))).await.unwrap_err();
        assert_eq!((error.code().0, error.class()), ("RT2616", Class::Fatal), "{error}");

        server.sql("SET GLOBAL require_secure_transport = ON");
        let clear = format!("{}?ssl-mode=DISABLED", server.url());
        let error = BinlogConnection::connect(&options(&clear)).await.unwrap_err();
        // MariaDB tells it in the words of a wrong password.
        let code = if flavor == Flavor::Mysql { "RT2608" } else { "RT2604" };
        assert_eq!((error.code().0, error.class()), (code, Class::Fatal), "{error}");
        assert!(error.remedy().unwrap().contains("ssl-mode"), "{error}");
        server.sql("SET GLOBAL require_secure_transport = OFF");

        server.sql("SET GLOBAL max_connections = 10");
        let mut held = Vec::new();
        let error = loop {
            match BinlogConnection::connect(&options(&clear)).await {
                Ok(connection) => held.push(connection),
                Err(error) => break error,
            }
        };
        assert_eq!((error.code().0, error.class()), ("RT2611", Class::Transient), "{error}");
    }
}

#[tokio::test]
async fn without_tls_or_a_log_at_the_server() {
    for (flavor, no_tls) in [(Flavor::Mysql, "tls-version="), (Flavor::Mariadb, "ssl=OFF")] {
        let Some(server) = Mysql::start(flavor, &[no_tls, "skip-log-bin=ON"]) else { return };
        let required = format!("{}?ssl-mode=REQUIRED", server.url());
        refused(&required, "RT2602", Class::Fatal).await;
        let url = format!("{}?get-server-public-key=true", server.url());
        let connection = login(&url).await.unwrap();
        assert!(!connection.greeting().is_encrypted);
        let start = Start::File { name: String::new(), position: 4 };
        let stream = connection.dump(&Dump::new(7, start)).await.unwrap();
        let format = Format::initial(true);
        let error = Log { stream, format }.error().await;
        assert_eq!((error.code().0, error.class()), ("RT2618", Class::Fatal), "{error}");
    }
}

/// What greets with fixed bytes and then says nothing more.
async fn impostor(greeting: &'static [u8]) -> String {
    use tokio::io::AsyncWriteExt;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _greeting = stream.write_all(greeting).await;
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
    });
    format!("mysql://u@127.0.0.1:{port}/?connect-timeout=1")
}

#[tokio::test]
async fn what_is_not_mysql_is_told_apart_from_what_is_slow() {
    let table: [(&[u8], &str, Class); 6] = [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "RT2615", Class::Fatal),
        (b"\x05\0\0\0\x0a9.7\0", "RT2615", Class::Fatal),
        (b"\x05\0\0\x01\x0a9.7\0", "RT2615", Class::Fatal),
        (b"", "RT2601", Class::Transient),
        (b"\x17\0\0\0\xff\x10\x04Too many connections", "RT2611", Class::Transient),
        (b"\x07\0\0\0\xff\x6a\x04host", "RT2605", Class::Fatal),
    ];
    for (greeting, code, class) in table {
        let error =
            BinlogConnection::connect(&options(&impostor(greeting).await)).await.unwrap_err();
        assert_eq!((error.code().0, error.class()), (code, class), "{error}");
    }
}
