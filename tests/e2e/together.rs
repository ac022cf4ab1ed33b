//! Several connectors in one process.

use rowtide_testkit::Postgres;

use crate::host::{Setup, sql};

/// One connector fails for good beside one that runs: the exit code at the end still tells.
#[test]
fn a_failure_beside_a_running_connector_tells_in_the_exit_code() {
    let Some(server) = Postgres::start("18", &[]) else { return };
    sql(&server, "CREATE TABLE t (id int PRIMARY KEY)");
    let setup = Setup::to_files(&server);
    let mut host = setup.first_start();
    assert_eq!(host.stop(), Some(0), "{}", host.log());
    let config = std::fs::read_to_string(setup.path("rowtide.yaml")).unwrap();
    let connector = config.split("state:").next().unwrap().split("connectors:\n").nth(1).unwrap();
    let second = connector.replace("shop:", "audit:").replace("e2e", "e2e_b");
    let second = second.replace("/out", "/out_b");
    let both = config.replace("state:", &format!("{second}state:"));
    std::fs::write(setup.path("rowtide.yaml"), both).unwrap();
    sql(&server, "SELECT pg_drop_replication_slot('e2e')");
    let mut host = setup.start();
    host.until_logged("RT2204");
    host.until_logged("the first position is saved");
    sql(&server, "INSERT INTO t VALUES (2)");
    let written = setup.path("out_b/audit.public.t");
    host.until("the other one goes on", || written.exists());
    assert_eq!(host.stop(), Some(3), "{}", host.log());
}

/// Each of two connectors would take the other's tables out of the publication.
#[test]
fn a_publication_that_is_kept_in_step_belongs_to_one_connector() {
    let Some(server) = Postgres::start("18", &[]) else { return };
    sql(&server, "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)");
    let setup = Setup::to_files(&server);
    let mut host = setup.first_start();
    assert_eq!(host.stop(), Some(0), "{}", host.log());
    let config = std::fs::read_to_string(setup.path("rowtide.yaml")).unwrap();
    let connector = config.split("state:").next().unwrap().split("connectors:\n").nth(1).unwrap();
    let second = connector.replace("shop:", "audit:").replace("slot: e2e", "slot: e2e_b");
    let second = second.replace("/out", "/out_b").replace("public.*", "public.b");
    let both = config.replace("state:", &format!("{second}state:"));
    std::fs::write(setup.path("rowtide.yaml"), &both).unwrap();
    let said = setup.output(&["run"]);
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("RT1015") && said.contains("publication e2e"), "{said}");
    let managed = "publication: e2e\n      publication_management: external";
    std::fs::write(setup.path("rowtide.yaml"), both.replace("publication: e2e", managed)).unwrap();
    let said = setup.output(&["check"]);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));
}
