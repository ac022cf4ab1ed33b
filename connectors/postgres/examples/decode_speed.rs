//! Nanoseconds per value of the decoders, each over values that vary in length:
//! `cargo run --release -p rowtide-postgres --example decode_speed`.
#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    missing_docs,
    reason = "a program to be run by hand"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use rowtide_postgres::decode;
use rowtide_sdk::JsonWriter;

/// How long each type is measured.
const TIME: Duration = Duration::from_millis(300);

fn main() {
    println!("{:<28} {:>8} {:>8} {:>8}", "type", "bytes", "ns/value", "GB/s");
    let long = "A line of text, neither short nor long. ".repeat(2500);
    let quoted = format!("say \"hi\"\n{}", "x".repeat(40));
    let accents = "Łódź, Île-de-France, 東京 ".repeat(4);
    let hex = format!("\\x{}", "00ff7f".repeat(20_000));
    let json = format!(
        "[{}]",
        vec![r#"{"id": 12345, "name": "some name", "tags": ["a", "b"]}"#; 200].join(", ")
    );
    let cases: &[(u32, &[&str])] = &[
        (16, &["t", "f"]),
        (23, &["1", "42", "1234567", "-2147483648"]),
        (20, &["1", "9007199254740993", "1763657833123456", "-9223372036854775808"]),
        (701, &["0.1", "1234.5678", "1.7976931348623157e+308", "-3"]),
        (1700, &["1.00", "45.60", "123456.78", "-12345678901234567890.123456789012345678"]),
        (790, &["$1.00", "-$1,234.56"]),
        (1184, &["2026-11-20 16:57:13.123456+00", "2026-11-20 16:57:13+00"]),
        (1114, &["2026-11-20 16:57:13.123456", "2026-11-20 16:57:13.5"]),
        (1082, &["2026-11-20"]),
        (2950, &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
        (
            25,
            &[
                "short",
                "a text of about thirty bytes..",
                "sixty bytes of text, which is what many columns hold: a name",
            ],
        ),
        (25, &[&quoted]),
        (25, &[&accents]),
        (25, &[&long]),
        (1043, &["open", "cancelled by customer"]),
        (17, &["\\xdeadbeef"]),
        (17, &[&hex]),
        (3802, &["{\"a\": 1, \"b\": [1, 2, 3], \"name\": \"some text\", \"ok\": true}"]),
        (3802, &[&json]),
        (114, &["{\"a\":1,\"b\":[1,2,3],\"name\":\"some text\",\"ok\":true}"]),
        (114, &[&json]),
        (1007, &["{1,2,3,NULL,5}"]),
        (1009, &["{plain,\"with blank\",\"with \\\"quote\\\"\"}"]),
    ];
    for (oid, values) in cases {
        measure(*oid, values);
    }
}

/// Prints the quickest of many short runs, so that other work on the machine does not count.
fn measure(oid: u32, values: &[&str]) {
    let decoding = decode::builtin(oid, -1).expect("a built-in type");
    let mut out = JsonWriter::new(Vec::with_capacity(1 << 20));
    let bytes: usize = values.iter().map(|value| value.len()).sum();
    let rounds = (100_000 / bytes.max(100)).max(1);
    let start = Instant::now();
    let mut best = Duration::MAX;
    while start.elapsed() < TIME {
        let run = Instant::now();
        for _ in 0..rounds {
            for value in values {
                decoding.decode.write(black_box(value.as_bytes()), &mut out).expect("a value");
            }
        }
        best = best.min(run.elapsed());
        out.truncate(0);
    }
    let each = best.as_secs_f64() * 1e9 / (rounds * values.len()) as f64;
    let name = decode::builtin_name(oid, -1).unwrap_or_default();
    let size = bytes / values.len();
    println!("{name:<28} {size:>8} {each:>8.1} {:>8.2}", size as f64 / each);
}
