//! Values of the wrong form, and files in which a key is there twice.

use super::{load, load_from, only_problem, with_parts};

/// What has the wrong form is told which form it must have, also inside a value of several forms.
#[test]
fn wrong_forms_are_told_the_right_one() {
    let source = |setting: &str| {
        let settings = format!("slot: s, {setting}");
        with_parts("{ type: stdout }", "").replace("slot: s", &settings)
    };
    let slot = with_parts("{ type: stdout }", "").replace("slot: s", "slot: My-Slot");
    for (text, path, words) in [
        (slot, "source.slot", "\"My-Slot\" has the wrong form: it must be 1 to 63 of the"),
        (source("runway_warning: 1y"), "source.runway_warning", "ms, s, m, h or d, such as 10s"),
        (source("heartbeat: { interval: 1y }"), "source.heartbeat.interval", "h or d, such as 10s"),
        (source("heartbeat: { every: 1s }"), "source.heartbeat.every", "unknown field"),
        (source("spool: { max: 1PB }"), "source.spool.max", "GiB or TiB, such as 50GiB"),
        (source("logical_decoding_work_mem: 1"), "source.logical_decoding_work_mem", "text"),
        (
            source("logical_decoding_work_mem: 1M"),
            "source.logical_decoding_work_mem",
            "kB, MB or GB, such as 512MB",
        ),
    ] {
        let problems = load(&text).unwrap_err();
        let path = format!("connectors.shop.{path}");
        let found = problems.iter().find(|problem| problem.path == path);
        let message = &found.unwrap_or_else(|| panic!("{path}: {problems:?}")).message;
        assert!(message.contains(words), "{message}");
    }
}

/// A value of another type is told what may stand there, and how it is written.
#[test]
fn a_value_of_the_wrong_type_is_told_how_it_is_written() {
    let source = |setting: &str| {
        let settings = format!("slot: s, {setting}");
        with_parts("{ type: stdout }", "").replace("slot: s", &settings)
    };
    for (setting, wanted, written) in [
        ("heartbeat: 10", "must be off or a map, but is a whole number", "`{ interval: 10s }`"),
        ("runway_warning: 5", "must be text, but is a whole number", "s, m, h or d, such as 10s"),
        ("binary: 3", "must be auto, on or off, but is", "in its binary form"),
    ] {
        let problems = load(&source(setting)).unwrap_err();
        let [problem] = problems.as_slice() else { panic!("{problems:?}") };
        assert!(problem.message.starts_with(wanted), "{problem:?}");
        assert!(problem.remedy.as_deref().unwrap_or_default().contains(written), "{problem:?}");
    }
}

/// A key that is there twice is named with the place, and which of its values counts is not guessed.
#[test]
fn keys_that_are_there_twice_are_problems() {
    let twice = "connectors:\n  shop:\n    tables:\n      p.t: {}\n    tables:\n      p.u: {}\n";
    for (name, text, place) in [
        (
            "c.yaml",
            twice,
            "\"tables\" is there twice in one map: at line 3, column 5, and at line 5, column 5",
        ),
        (
            "c.json",
            "{\"a\": {\"b\": 1,\n\"b\": 2}}",
            "\"b\" is there twice in one map at line 2 column 3",
        ),
        ("c.toml", "[a]\nb = 1\nb = 2\n", "line 3, column 1; duplicate key"),
    ] {
        let problem = only_problem(load_from(name, text, &[]));
        assert_eq!(problem.code.0, "RT1002");
        assert!(problem.message.contains(place), "{problem}");
        assert!(problem.remedy.is_some_and(|remedy| remedy.contains("Keep one")));
    }
    let problem = only_problem(load_from("c.yaml", "a: 1\nb: { c: [ }\n", &[]));
    assert!(problem.message.contains("cannot be parsed: at line 2, column 11: "), "{problem}");
}
