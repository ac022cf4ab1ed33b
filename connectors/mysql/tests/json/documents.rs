//! Documents of every kind: generated ones, large ones, and ones with values of SQL types.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::server::Server;

/// A generator of numbers that are the same in every run (xorshift).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).expect("31 bits") % bound
    }

    /// Any finite double.
    fn double(&mut self) -> f64 {
        loop {
            let value = f64::from_bits(self.next());
            if value.is_finite() {
                return value;
            }
        }
    }

    /// Characters of one to four bytes, control characters, quotes and backslashes.
    pub(crate) fn string(&mut self, max: usize) -> String {
        let len = self.below(max + 1);
        let char = |random: &mut Self| match random.below(8) {
            0 => char::from_u32(u32::try_from(random.below(0x100)).expect("small")),
            1 => char::from_u32(u32::try_from(random.below(0x11_0000)).expect("small")),
            2 => Some(['"', '\\', '/', '\'', ' ', '.', '[', '$'][random.below(8)]),
            _ => Some(char::from(b'a' + u8::try_from(random.below(26)).expect("small"))),
        };
        (0..len).filter_map(|_| char(self)).collect()
    }

    pub(crate) fn scalar(&mut self) -> Value {
        match self.below(9) {
            0 => Value::Null,
            1 => json!(self.next().is_multiple_of(2)),
            2 => json!(self.double()),
            3 => json!(self.next()),
            4 => json!(self.next().cast_signed() >> self.below(64)),
            5 => json!(self.next() >> self.below(64)),
            // A few digits: fixed notation.
            6 => json!(self.below(1_000_000) as f64 / 10f64.powi(3)),
            _ => json!(self.string(20)),
        }
    }

    pub(crate) fn document(&mut self, depth: usize) -> Value {
        if depth == 0 {
            return self.scalar();
        }
        match self.below(4) {
            0 => self.scalar(),
            1 => (0..self.below(7)).map(|_| self.document(depth - 1)).collect(),
            _ => (0..self.below(7))
                .map(|_| (self.string(8), self.document(depth - 1)))
                .collect::<Map<_, _>>()
                .into(),
        }
    }
}

/// An SQL string under `NO_BACKSLASH_ESCAPES`.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// `depth` arrays and objects, each in the next.
fn nested(depth: usize) -> Value {
    (0..depth).fold(json!("end"), |inner, level| {
        if level % 2 == 0 { json!([inner]) } else { json!({ "k": inner }) }
    })
}

/// Documents that need the large format, or nearly do.
fn large() -> Vec<Value> {
    let mut random = Random::new(2);
    let object = |count: usize| -> Map<_, _> {
        (0..count).map(|n| (format!("key {n} é"), json!(n * 1000))).collect()
    };
    let mut all = vec![
        json!((0..30_000).collect::<Vec<i64>>()),
        json!((0..30_000).map(|n| n * 100_000 - 7).collect::<Vec<i64>>()),
        json!((0..20_000).map(|_| random.next()).collect::<Vec<u64>>()),
        json!((0..5_000).map(|_| random.double()).collect::<Vec<f64>>()),
        json!([true, null, -1, 65_535, 70_000, "x".repeat(70_000), object(3)]),
        json!({ "a": object(5000), "b": { "c": [object(2), 4_000_000_000u32] }, "é": 1.0 }),
        json!("y".repeat(300_000)),
        json!({ "k".repeat(65_000): 1, "l": false }),
    ];
    // Around the lengths where the size of a string, and the format, get longer.
    for len in [127, 128, 16_383, 16_384, 65_520, 65_524, 65_528, 65_532, 65_536] {
        all.push(json!(["z".repeat(len)]));
    }
    all
}

fn generated() -> Vec<Value> {
    let mut random = Random::new(1);
    let mut all = vec![json!({}), json!([]), json!(""), json!({ "": "" }), nested(99), nested(100)];
    all.extend(
        [0, 1, -1, 0x7fff, 0x8000, -0x8000, -0x8001, 0xffff, 0x1_0000, 0x7fff_ffff, 0x8000_0000]
            .map(|value: i64| json!([value, -value, { "v": value }])),
    );
    all.push(json!([i64::MIN, i64::MAX, u64::MAX, u32::MAX, i32::MIN]));
    let powers_of_two = (-1074..1024).map(|exponent| 2f64.powi(exponent)).collect::<Vec<_>>();
    let powers_of_ten: Vec<f64> =
        (-330..309).map(|exponent| format!("1e{exponent}").parse().expect("a double")).collect();
    for doubles in [powers_of_two, powers_of_ten] {
        let halves = doubles.iter().map(|value| value * 1.5).collect::<Vec<_>>();
        let negative = doubles.iter().map(|value| -value).collect::<Vec<_>>();
        all.extend([json!(doubles), json!(halves), json!(negative)]);
    }
    all.extend((0..200).map(|_| (0..50).map(|_| random.double()).collect()));
    all.extend((0..200).map(|_| random.scalar()));
    all.extend((0..1500).map(|n| random.document(1 + n % 6)));
    all.push((0..=0x7f).chain(0x80..0x900).filter_map(char::from_u32).collect::<String>().into());
    all
}

/// Expressions that make documents with values of SQL types.
fn typed() -> Vec<String> {
    let mut all: Vec<String> = [
        "json_array(cast('2020-01-01' as date), cast('0001-01-01' as date),
           cast('9999-12-31' as date))",
        "json_array(cast('2020-01-01 10:00:00' as datetime),
           cast('9999-12-31 23:59:59.999999' as datetime(6)))",
        "json_array(timestamp('2020-01-01 10:00:00.5'), utc_timestamp(6), curdate(), curtime(3))",
        "json_array(cast('00:00:00' as time), cast('-838:59:59' as time),
           cast('838:59:58.999999' as time(6)))",
        "json_array(cast('-00:00:00.000001' as time(6)), cast('-10:11:12.5' as time(1)),
           cast('100:00:00' as time))",
        "json_array(1.50, -0.001, cast(0 as decimal(5,2)), cast(-0.00 as decimal(5,2)),
           100.0, 0.5, -0.5)",
        "json_array(cast(repeat('9',65) as decimal(65,0)),
           cast(concat('-',repeat('9',35),'.',repeat('9',30)) as decimal(65,30)))",
        "json_array(cast('0.000000000000000000000000000001' as decimal(30,30)),
           cast(1 as decimal(65,30)))",
        "json_array(1.1*1.1, 10/3, -7/9, 1e0/3, sum(1.25), avg(3))",
        "json_array(b'101', x'00ff', cast('a' as binary), x'', true, false, null)",
        "json_array(st_geomfromtext('LINESTRING(0 0, 1 1)'), cast('2020' as year))",
        "cast(1.25 as json)",
        "cast(cast('2020-01-01' as date) as json)",
        "cast(cast('-1:00:00' as time) as json)",
        "cast(cast(x'0102' as binary) as json)",
    ]
    .map(str::to_owned)
    .into();
    for len in (0..8).chain([56, 57, 58, 113, 114, 115, 1000, 100_000]) {
        all.push(format!("json_object('blob', repeat(cast(x'fb' as binary), {len}))"));
    }
    let mut random = Random::new(3);
    for _ in 0..300 {
        let scale = random.below(31);
        let integer = random.below(65 - scale + 1);
        let digits = |random: &mut Random, count: usize| -> String {
            (0..count).map(|_| char::from(b"0123456789"[random.below(10)])).collect()
        };
        let sign = ["", "-"][random.below(2)];
        let (before, after) = (digits(&mut random, integer), digits(&mut random, scale));
        let precision = (integer + scale).max(1);
        all.push(format!(
            "json_array(cast('{sign}{before}.{after}' as decimal({precision},{scale})))"
        ));
    }
    for _ in 0..100 {
        let (day, seconds) = (random.below(3_600_000), random.below(86_400));
        let (micros, fraction) = (random.below(1_000_000), random.below(7));
        let (sign, times) = (["", "-"][random.below(2)], random.below(35));
        all.push(format!(
            "json_array(date_add(date_add(cast('0001-01-01' as datetime(6)), interval {day} day),
               interval '{seconds}.{micros:06}' second_microsecond),
             cast(date_add(cast('0001-01-01' as date), interval {day} day) as datetime({fraction})),
             date_add(cast('0001-01-01' as date), interval {day} day),
             cast(sec_to_time({sign}{seconds}.{micros:06} * {times}) as time({fraction})))"
        ));
    }
    all
}

/// A table with a column of every type but VECTOR, which JSON does not take, and its rows.
const TYPED: &str = "
create table typed (bit1 bit(1), bit20 bit(20), bit64 bit(64), tiny tinyint, flag bool,
  small smallint unsigned, big bigint unsigned, f float, d double, dec1 decimal(20,5), y year,
  dt date, t0 time, t6 time(6), dt0 datetime, dt3 datetime(3), ts timestamp null,
  ts6 timestamp(6) null, c char(10), vc varchar(20) charset latin1, bin binary(5),
  vbin varbinary(20), tb tinyblob, b blob, mb mediumblob, lb longblob, tx text,
  e enum('x','é'), s set('p','q'), j json, g geometry);
insert into typed values (b'1', b'10101', x'ffffffffffffffff', -128, true, 65535,
  18446744073709551615, 1.1, -2.5e-10, 123.45, 2155, '2020-02-29', '-12:30:00',
  '99:59:59.999999', '2020-02-29 12:00:00', '2020-02-29 12:00:00.125', '2020-02-29 12:00:00',
  '2020-02-29 12:00:00.000001', 'char', 'é', 'ab', 'cd', 'ef', 'gh', 'ij', repeat('kl', 100),
  'text', 'é', 'p,q', '{\"b\":1,\"a\":[1.0]}', point(1, 2.5)),
  (b'0', 0, 0, 0, false, 0, 0, 0, 0, 0, 1901, '0000-00-00', 0, '-00:00:00.5', '0000-00-00',
  '2020-00-00', null, null, '', '', '', '', '', '', '', '', '', 'x', '', 'null', null);
";

/// Its columns.
const NAMES: [&str; 31] = [
    "bit1", "bit20", "bit64", "tiny", "flag", "small", "big", "f", "d", "dec1", "y", "dt", "t0",
    "t6", "dt0", "dt3", "ts", "ts6", "c", "vc", "bin", "vbin", "tb", "b", "mb", "lb", "tx", "e",
    "s", "j", "g",
];

/// Fills a new table; answers how many documents it has.
pub(crate) fn insert(server: &Server, table: &str) -> usize {
    let mut sql = format!(
        "set sql_mode = 'NO_BACKSLASH_ESCAPES';
         create table {table} (id int primary key auto_increment, doc json);\n"
    );
    let texts: Vec<String> =
        generated().into_iter().chain(large()).map(|value| quoted(&value.to_string())).collect();
    for chunk in texts.chunks(100) {
        writeln!(sql, "insert into {table} (doc) values ({});", chunk.join("), (")).expect("text");
    }
    let typed = typed();
    for expression in &typed {
        writeln!(sql, "insert into {table} (doc) select {expression};").expect("text");
    }
    let pairs: Vec<String> = NAMES.iter().map(|name| format!("'{name}', {name}")).collect();
    writeln!(sql, "{TYPED}").expect("text");
    writeln!(sql, "insert into {table} (doc) select json_object({}) from typed;", pairs.join(", "))
        .expect("text");
    let casts: Vec<String> = NAMES
        .iter()
        // Text is parsed, not cast.
        .filter(|name| !["g", "c", "vc", "tx", "e", "s"].contains(*name))
        .map(|name| {
            format!(
                "insert into {table} (doc) select cast({name} as json) from typed
             where {name} is not null;"
            )
        })
        .collect();
    sql.push_str(&casts.join("\n"));
    server.sql(&sql);
    let count = server.sql(&format!("select count(*) from {table}"));
    let count = count.trim().parse().expect("a count");
    assert!(count > texts.len() + typed.len());
    count
}
