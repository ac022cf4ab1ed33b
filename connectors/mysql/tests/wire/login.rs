//! Every authentication that the servers have, over every kind of stream.

use rowtide_mysql::wire::Flavor as Greeted;

use super::certificates::Certificates;
use super::*;

/// The authentications that a server has, of those that are known here, each with a user of its name.
fn with_users(server: &Mysql, flavor: Flavor) -> Vec<&'static str> {
    let plugins = server.sql("SELECT @@plugin_dir");
    let brings_ed25519 = Path::new(plugins.trim()).join("auth_ed25519.so").exists();
    if flavor == Flavor::Mariadb && brings_ed25519 {
        server.sql("INSTALL SONAME 'auth_ed25519'");
    }
    let known: &[&str] = match flavor {
        Flavor::Mysql => &["caching_sha2_password", "sha256_password", "mysql_native_password"],
        Flavor::Mariadb => &["mysql_native_password", "ed25519"],
    };
    let active = server.sql(
        "SELECT plugin_name FROM information_schema.plugins
         WHERE plugin_type = 'AUTHENTICATION' AND plugin_status = 'ACTIVE'",
    );
    let has = |name: &str| active.lines().any(|line| line == name);
    let found: Vec<&str> = known.iter().copied().filter(|name| has(name)).collect();
    for name in &found {
        server.sql(&match flavor {
            Flavor::Mysql => format!("CREATE USER {name}@'%' IDENTIFIED WITH {name} BY 'geheim'"),
            Flavor::Mariadb => {
                format!("CREATE USER {name}@'%' IDENTIFIED VIA {name} USING PASSWORD('geheim')")
            }
        });
        server.sql(&format!("CREATE USER {name}_empty@'%' IDENTIFIED BY ''"));
    }
    found
}

#[tokio::test]
async fn m68_every_authentication_over_every_stream() {
    let certificates = Certificates::make();
    let settings = certificates.settings();
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    for flavor in Flavor::ALL {
        let Some(server) = Mysql::start(flavor, &settings) else { return };
        let (port, socket) = (server.port(), server.socket());
        let ca = certificates.path("ca.pem");
        let users = with_users(&server, flavor);
        println!("{users:?}");
        for user in users {
            let is_sha = user.contains("sha");
            let url = |password: &str, query: &str| {
                format!("mysql://{user}:{password}@localhost:{port}/?{query}")
            };
            for query in [
                String::new(),
                "ssl-mode=REQUIRED".to_owned(),
                format!("ssl-mode=VERIFY_CA&ssl-ca={ca}"),
                format!("ssl-mode=VERIFY_IDENTITY&ssl-ca={ca}"),
            ] {
                // The server forgets whose password it has seen.
                server.sql("FLUSH PRIVILEGES");
                let connection = login(&url("geheim", &query)).await.unwrap();
                assert!(connection.greeting().is_encrypted, "{user} {query}");
                refused(&url("geheim2", &query), "RT2604", Class::Fatal).await;
            }
            server.sql("FLUSH PRIVILEGES");
            let local = |password: &str| format!("mysql://{user}:{password}@/?socket={socket}");
            let connection = login(&local("geheim")).await.unwrap();
            assert!(!connection.greeting().is_encrypted);
            refused(&local("geheim2"), "RT2604", Class::Fatal).await;

            server.sql("FLUSH PRIVILEGES");
            let key = "ssl-mode=DISABLED&get-server-public-key=true";
            if is_sha {
                let error =
                    refused(&url("geheim", "ssl-mode=DISABLED"), "RT2607", Class::Fatal).await;
                assert!(error.remedy().unwrap().contains("get-server-public-key"), "{error}");
                let file = server.data().join("public_key.pem").display().to_string();
                let by_file = format!("ssl-mode=DISABLED&server-public-key={file}");
                login(&url("geheim", &by_file)).await.unwrap();
                server.sql("FLUSH PRIVILEGES");
                let wrong = format!("ssl-mode=DISABLED&server-public-key={ca}");
                refused(&url("geheim", &wrong), "RT2607", Class::Fatal).await;
                refused(&url("geheim2", key), "RT2604", Class::Fatal).await;
            }
            let connection = login(&url("geheim", key)).await.unwrap();
            assert!(!connection.greeting().is_encrypted);
            if user != "sha256_password" {
                // The server has seen the password by now.
                login(&url("geheim", "ssl-mode=DISABLED")).await.unwrap();
            }
            login(&format!("mysql://{user}_empty@localhost:{port}/?ssl-mode=DISABLED"))
                .await
                .unwrap();
        }
        refused(&format!("mysql://nobody@127.0.0.1:{port}/"), "RT2604", Class::Fatal).await;
    }
}

#[tokio::test]
async fn tls_is_verified_as_far_as_ssl_mode_says() {
    let certificates = Certificates::make();
    let settings = certificates.settings();
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let path = |name: &str| certificates.path(name);
    for flavor in Flavor::ALL {
        let Some(server) = Mysql::start(flavor, &settings) else { return };
        let port = server.port();
        let url =
            |host: &str, query: &str| format!("mysql://rowtide:rowtide@{host}:{port}/?{query}");
        // Another name of the same server.
        let via = proxy(port).await;
        let elsewhere = |query: &str| format!("mysql://rowtide:rowtide@127.0.0.2:{via}/?{query}");
        let verify = |mode: &str, name: &str| format!("ssl-mode={mode}&ssl-ca={}", path(name));
        for good in [
            url("127.0.0.1", &verify("VERIFY_IDENTITY", "ca.pem")),
            url("localhost", &verify("VERIFY_IDENTITY", "ca.pem")),
            elsewhere(&verify("VERIFY_CA", "ca.pem")),
            // Exactly this certificate is trusted.
            url("localhost", &verify("VERIFY_IDENTITY", "server.pem")),
        ] {
            assert!(login(&good).await.unwrap().greeting().is_encrypted, "{good}");
        }
        for bad in [
            url("localhost", &verify("VERIFY_IDENTITY", "other.pem")),
            url("localhost", &verify("VERIFY_CA", "other.pem")),
            url("localhost", "ssl-mode=VERIFY_CA"),
        ] {
            let error = refused(&bad, "RT2603", Class::Fatal).await;
            assert!(error.remedy().unwrap().contains("ssl-ca"), "{error}");
        }
        let error =
            refused(&elsewhere(&verify("VERIFY_IDENTITY", "ca.pem")), "RT2603", Class::Fatal).await;
        assert!(error.remedy().unwrap().contains("subjectAltName"), "{error}");
        let missing = url("localhost", "ssl-mode=VERIFY_CA&ssl-ca=/nonexistent.pem");
        refused(&missing, "RT2504", Class::Fatal).await;

        server.sql("CREATE USER x509@'%' IDENTIFIED BY 'geheim' REQUIRE X509");
        let with = |cert: &str, key: &str| {
            format!(
                "mysql://x509:geheim@localhost:{port}/?ssl-mode=REQUIRED&ssl-cert={}&ssl-key={}",
                path(cert),
                path(key)
            )
        };
        login(&with("client.pem", "client.key")).await.unwrap();
        let without = format!("mysql://x509:geheim@localhost:{port}/?ssl-mode=REQUIRED");
        refused(&without, "RT2604", Class::Fatal).await;
        refused(&with("client.pem", "server.key"), "RT2504", Class::Fatal).await;
        refused(&with("other.pem", "other.key"), "RT2603", Class::Fatal).await;
        assert!(certificates.folder().is_dir());
    }
}

/// A port of 127.0.0.2 that leads to the server's port of 127.0.0.1.
async fn proxy(port: u16) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.2:0").await.unwrap();
    let local = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut far = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let _ended = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    local
}

#[tokio::test]
async fn hosts_are_tried_in_order_and_servers_are_told_apart() {
    for flavor in Flavor::ALL {
        let Some(server) = Mysql::start(flavor, &[]) else { return };
        let port = server.port();
        let url = format!("mysql://rowtide:rowtide@127.0.0.1:1,localhost:{port}/mysql");
        let mut connection = login(&url).await.unwrap();
        let greeting = connection.greeting().clone();
        assert_eq!(greeting.target.to_string(), format!("localhost:{port}"));
        assert_eq!(greeting.address.unwrap().port(), port);
        let (greeted, least) = match flavor {
            Flavor::Mysql => (Greeted::MySql, (8, 0, 0)),
            Flavor::Mariadb => (Greeted::MariaDb, (10, 5, 0)),
        };
        assert!(greeting.flavor == greeted && greeting.numbers >= least, "{greeting:?}");
        let asked = connection.rows("SELECT CONNECTION_ID(), DATABASE(), NULL").await.unwrap();
        let id = greeting.connection_id.to_string();
        assert_eq!(asked, [[Some(id), Some("mysql".to_owned()), None]]);
        assert!(server.sql("SELECT VERSION()").starts_with(&greeting.version));
        connection.execute("SET @a = 1").await.unwrap();
        let error = connection.execute("NO SUCH THING").await.unwrap_err();
        assert_eq!(error.code().0, "RT2649", "{error}");
        connection.close().await;

        let url = format!("mysql://rowtide:geheim@127.0.0.1:1,127.0.0.1:{port}/");
        let error = refused(&url, "RT2601", Class::Transient).await;
        for words in ["127.0.0.1:1", &format!("127.0.0.1:{port}"), "1045"] {
            assert!(error.message().contains(words), "{error}");
        }
    }
}

#[tokio::test]
async fn large_answers_of_sql_pass_and_a_killed_one_is_told() {
    for flavor in Flavor::ALL {
        let Some(server) = Mysql::start(flavor, &["max-allowed-packet=64M"]) else { return };
        let mut conn = sql_conn(&options(server.url())).await.unwrap();
        let long: Option<String> = conn.query_first("SELECT REPEAT('x', 20000000)").await.unwrap();
        assert_eq!(long.unwrap().len(), 20_000_000);
        let bound: Option<(i64, f32)> =
            conn.exec_first("SELECT ?, CAST(16777217 AS FLOAT)", (7,)).await.unwrap();
        assert_eq!(bound.unwrap().0, 7);
        server.sql(&format!("KILL {}", conn.id()));
        assert!(conn.query_drop("SELECT 1").await.is_err());
    }
}
