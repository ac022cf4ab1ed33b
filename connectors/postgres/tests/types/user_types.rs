//! Facts about user types as a server with the test set-up answers them, for tests without one.

use rowtide_postgres::catalog::{Attribute, Modifier, TypeCatalog, TypeFact, TypeKind};

pub(crate) const MOOD: u32 = 19781;
pub(crate) const ADDR: u32 = 19795;
pub(crate) const ADDR_ARRAY: u32 = 19794;
pub(crate) const FLOAT_RANGE: u32 = 19799;
pub(crate) const EMAIL: u32 = 19807;
pub(crate) const POSINT: u32 = 19900;
pub(crate) const POSINT2: u32 = 19901;
pub(crate) const INT_ARRAY_DOMAIN: u32 = 19902;
pub(crate) const ARRAY_OF_DOMAIN: u32 = 19903;
pub(crate) const SMALL_ADDR: u32 = 19904;
pub(crate) const SMALL_ADDR_ARRAY: u32 = 19905;
pub(crate) const WITH_JSON: u32 = 19906;
pub(crate) const HSTORE: u32 = 18602;
pub(crate) const CITEXT: u32 = 18000;
pub(crate) const LTREE: u32 = 18730;
pub(crate) const CUBE: u32 = 19020;
pub(crate) const ISBN: u32 = 19125;
pub(crate) const VECTOR: u32 = 20000;
pub(crate) const HALFVEC: u32 = 20001;
pub(crate) const GEOMETRY: u32 = 20002;
pub(crate) const GEOGRAPHY: u32 = 20003;

pub(crate) fn fact(oid: u32, name: &str, toastable: bool, kind: TypeKind) -> TypeFact {
    TypeFact { oid, name: format!("public.{name}"), toastable, kind }
}

fn extension(oid: u32, extension: &str, name: &str) -> TypeFact {
    let kind = TypeKind::Base { type_name: name.to_owned(), extension: Some(extension.to_owned()) };
    fact(oid, name, true, kind)
}

pub(crate) fn attribute(name: &str, type_oid: u32) -> Attribute {
    Attribute { name: name.to_owned(), type_oid, typmod: -1 }
}

pub(crate) fn catalog() -> TypeCatalog {
    let domain = |base| TypeKind::Domain { base, typmod: -1 };
    let array = |element| TypeKind::Array { element, delimiter: ',' };
    let addr = vec![attribute("street", 25), attribute("city", 25), attribute("n", 23)];
    let small_addr = vec![attribute("street", 25), attribute("n", 23)];
    let with_json = vec![attribute("j", 114), attribute("js", 199)];
    let types = [
        fact(MOOD, "cdc_mood", false, TypeKind::Enum),
        fact(ADDR, "cdc_addr", true, TypeKind::Composite { attributes: addr }),
        fact(ADDR_ARRAY, "cdc_addr[]", true, array(ADDR)),
        fact(FLOAT_RANGE, "cdc_frange", true, TypeKind::Range { subtype: 701 }),
        fact(EMAIL, "cdc_email", true, domain(CITEXT)),
        fact(POSINT, "posint", false, domain(23)),
        fact(POSINT2, "posint2", false, domain(POSINT)),
        fact(INT_ARRAY_DOMAIN, "cdc_intarr", true, domain(1007)),
        fact(ARRAY_OF_DOMAIN, "cdc_intarr[]", true, array(INT_ARRAY_DOMAIN)),
        fact(SMALL_ADDR, "addr", true, TypeKind::Composite { attributes: small_addr }),
        fact(SMALL_ADDR_ARRAY, "addr[]", true, array(SMALL_ADDR)),
        fact(WITH_JSON, "with_json", true, TypeKind::Composite { attributes: with_json }),
        extension(HSTORE, "hstore", "hstore"),
        extension(CITEXT, "citext", "citext"),
        extension(LTREE, "ltree", "ltree"),
        extension(CUBE, "cube", "cube"),
        extension(ISBN, "isn", "isbn"),
        extension(VECTOR, "vector", "vector"),
        extension(HALFVEC, "vector", "halfvec"),
        extension(GEOMETRY, "postgis", "geometry"),
        extension(GEOGRAPHY, "postgis", "geography"),
    ];
    let modifier =
        |type_oid, typmod, text: &str| Modifier { type_oid, typmod, text: text.to_owned() };
    TypeCatalog::new(types, [modifier(VECTOR, 3, "(3)"), modifier(GEOMETRY, 1, "(Point,4326)")])
}
