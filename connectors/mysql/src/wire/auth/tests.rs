//! Logins against servers that are made up.

use std::path::Path;

use super::*;

fn login(options: &ConnectOptions, plugin: Plugin, is_encrypted: bool) -> Login<'_> {
    Login {
        password: options.password.as_ref().map_or("", |password| password.expose()),
        plugin,
        nonce: vec![7; 20],
        privacy: Privacy { is_encrypted, is_private: is_encrypted },
        may_ask_for_key: options.get_server_public_key,
        key: None,
        has_asked_for_key: false,
        has_switched: false,
        rounds: 0,
    }
}

fn options(query: &str) -> ConnectOptions {
    let url = format!("mysql://me:geheim@h/?{query}");
    ConnectOptions::parse(&url, Path::new("/")).unwrap()
}

#[test]
fn m68_no_password_leaves_in_clear_and_no_key_is_asked_for_unless_allowed() {
    let careful = options("");
    let mut caching = login(&careful, Plugin::CachingSha2, false);
    assert_eq!(caching.next_answer(&[1, 3]).unwrap(), Next::Wait);
    let error = caching.next_answer(&[1, 4]).unwrap_err();
    assert_eq!(error.code(), codes::PUBLIC_KEY);
    assert!(error.remedy().unwrap().contains("get-server-public-key"), "{error}");
    let error = login(&careful, Plugin::Sha256, false).first_answer().unwrap_err();
    assert_eq!(error.code(), codes::PUBLIC_KEY);
    let switch = b"\xfemysql_clear_password\0";
    let error = login(&careful, Plugin::Native, false).next_answer(switch).unwrap_err();
    assert_eq!(error.code(), codes::AUTHENTICATION);
    for plugin in [Plugin::Native, Plugin::CachingSha2, Plugin::Ed25519] {
        let answer = login(&careful, plugin, false).first_answer().unwrap();
        assert!(!answer.is_empty() && !answer.windows(6).any(|part| part == b"geheim"));
    }
}

#[test]
fn over_tls_it_is_sent_in_clear_and_where_allowed_the_key_is_asked_for() {
    let open = options("get-server-public-key=true");
    let clear = Next::Send(b"geheim\0".to_vec());
    assert_eq!(login(&open, Plugin::CachingSha2, true).next_answer(&[1, 4]).unwrap(), clear);
    assert_eq!(login(&open, Plugin::Sha256, true).first_answer().unwrap(), b"geheim\0");
    let mut asking = login(&open, Plugin::CachingSha2, false);
    assert_eq!(asking.next_answer(&[1, 4]).unwrap(), Next::Send(vec![2]));
    assert_eq!(asking.next_answer(b"\x01no key").unwrap_err().code(), codes::PUBLIC_KEY);
}

#[test]
fn a_server_that_goes_on_and_on_is_refused() {
    let careful = options("");
    let mut endless = login(&careful, Plugin::CachingSha2, true);
    let error = (0..20).find_map(|_| endless.next_answer(&[1, 3]).err()).unwrap();
    assert_eq!(error.code(), codes::PROTOCOL);
    for odd in [&b""[..], b"\x02", b"\xfemysql_native_password\0short"] {
        let error = login(&careful, Plugin::Native, true).next_answer(odd).unwrap_err();
        assert_eq!(error.code(), codes::PROTOCOL);
    }
    for unknown in [&b"\xfe"[..], b"\xfedialog\0[sudo] password: "] {
        let error = login(&careful, Plugin::Native, true).next_answer(unknown).unwrap_err();
        assert_eq!(error.code(), codes::AUTHENTICATION);
    }
}
