//! What URLs mean, and what is wrong with them.

use super::*;

fn read(url: &str) -> ConnectOptions {
    ConnectOptions::parse(url, Path::new("/etc/rowtide")).unwrap()
}

fn refused(url: &str) -> Vec<(&'static str, String)> {
    let problems = ConnectOptions::parse(url, Path::new("/")).unwrap_err();
    problems.into_iter().map(|found| (found.code.0, found.message)).collect()
}

#[test]
fn every_part_is_read() {
    let options = read(
        "mysql://me:p%40ss@h1:3307,h2,[::1]:3308/shop?ssl-mode=verify_identity&ssl-ca=ca.pem\
         &ssl-cert=c.pem&ssl-key=/k.pem&connect-timeout=3&get-server-public-key=true\
         &server-public-key=pub.pem",
    );
    assert_eq!(options.places(), "h1:3307,h2:3306,[::1]:3308");
    assert_eq!(options.user, "me");
    assert_eq!(options.password.as_ref().map(Secret::expose), Some("p@ss"));
    assert_eq!(options.database.as_deref(), Some("shop"));
    assert_eq!(options.tls.mode, SslMode::VerifyIdentity);
    assert_eq!(options.tls.roots, Roots::File("/etc/rowtide/ca.pem".into()));
    assert_eq!(options.tls.client, Some(("/etc/rowtide/c.pem".into(), "/k.pem".into())));
    assert_eq!(options.connect_timeout, Duration::from_secs(3));
    assert!(options.get_server_public_key);
    assert_eq!(options.server_public_key, Some("/etc/rowtide/pub.pem".into()));
    assert!(!format!("{options:?}").contains("p@ss"));
}

#[test]
fn little_is_enough() {
    let options = read("mariadb://me@h");
    assert_eq!((options.places().as_str(), options.database), ("h:3306", None));
    assert_eq!((options.tls.mode, options.tls.roots), (SslMode::Preferred, Roots::System));
    assert!(!options.get_server_public_key && options.password.is_none());
    let socket = read("mysql://me@localhost/db?socket=/run/mysqld.sock");
    assert_eq!(socket.targets, [Target::Unix("/run/mysqld.sock".into())]);
    assert_eq!(read("mysql://me@/?socket=/s").targets, [Target::Unix("/s".into())]);
}

#[test]
fn all_problems_are_told_at_once_and_none_quotes_the_password() {
    let all = refused("mysql://:geheim@h:0/?ssl-mode=on&sslmode=x&ssl-cert=c&connect-timeout=0");
    let codes: Vec<&str> = all.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, ["RT2501", "RT2502", "RT2502", "RT2502", "RT2505", "RT2501"]);
    assert!(all.iter().all(|(_, message)| !message.contains("geheim")));
}

#[test]
fn what_would_have_no_effect_is_refused() {
    for (url, code) in [
        ("postgres://u@h", "RT2501"),
        ("mysql://u@h/#", "RT2501"),
        ("mysql://u@", "RT2501"),
        ("mysql://h", "RT2501"),
        ("mysql://u@h,/", "RT2503"),
        ("mysql://u@h/?socket=/s", "RT2503"),
        ("mysql://u@/?socket=s", "RT2502"),
        ("mysql://u@h/?get-server-public-key=1", "RT2502"),
        ("mysql://u@h/?ssl-ca=c", "RT2505"),
        ("mysql://u@h/?ssl-ca=c&ssl-mode=required", "RT2505"),
        ("mysql://u@h/?ssl-cert=c&ssl-key=k&ssl-mode=disabled", "RT2505"),
        ("mysql://u@/?socket=/s&ssl-mode=required", "RT2505"),
    ] {
        let all = refused(url);
        assert_eq!((all.len(), all[0].0), (1, code), "{url}: {all:?}");
    }
}
