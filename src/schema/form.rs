//! The JSON form of a column as text: what is saved must read the same to every later build.
//!
//! ```text
//! form    = part [ ' or "placeholder"' ]
//! part    = 'masked sha256' | 'masked redact' | 'integer MIN..MAX' | word
//!         | 'array(' part ')' | 'object(' '"name" ' part ', ' … ')'
//! ```
//!
//! Lengths are left out. A column with a placeholder is masked, or its form is one word.

use rowtide_sdk::Form;

const INTEGER: &str = "integer ";
const MASKED: &str = "masked ";
const OR: &str = " or ";

/// What a consumer sees of a column, as text.
pub(super) fn form_text(form: &Form, mask: Option<&str>, placeholder: Option<&str>) -> String {
    let part = match mask {
        Some(mask) => format!("{MASKED}{mask}"),
        None => without_lengths(form),
    };
    match placeholder {
        Some(text) => format!("{part}{OR}{text:?}"),
        None => part,
    }
}

/// Whether a form's text is that of a masked column.
pub(super) fn is_masked(form: &str) -> bool {
    form.starts_with(MASKED)
}

fn without_lengths(form: &Form) -> String {
    match form {
        Form::Boolean => "boolean".to_owned(),
        Form::Integer { min, max } => format!("{INTEGER}{min}..{max}"),
        Form::Float => "float".to_owned(),
        Form::String(kind) => kind.name().to_owned(),
        Form::Json => "json".to_owned(),
        Form::Array(element) => format!("array({})", without_lengths(element)),
        Form::Object(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(name, form)| format!("{name:?} {}", without_lengths(form)))
                .collect();
            format!("object({})", fields.join(", "))
        }
        Form::Map => "map".to_owned(),
    }
}

/// What the text of a form is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FormParts<'a> {
    /// The form alone.
    pub(super) form: &'a str,
    /// The mask's name in the configuration, or `none`.
    pub(super) mask: &'a str,
    /// The placeholder in quotes, or `none`.
    pub(super) placeholder: &'a str,
}

impl<'a> FormParts<'a> {
    /// Takes the text of a form apart.
    pub(super) fn of(text: &'a str) -> Self {
        let (form, placeholder) = match text.split_once(OR) {
            Some((form, placeholder)) if !form.contains('(') => (form, placeholder),
            _ => (text, "none"),
        };
        Self { form, mask: form.strip_prefix(MASKED).unwrap_or("none"), placeholder }
    }
}

/// Whether a reader of values of the form `old` can read those of the form `new`: it is the same
/// one, or its integers are from within the bounds, or its objects have more fields.
pub(super) fn is_within(old: &str, new: &str) -> bool {
    old == new
        || parse(old).zip(parse(new)).is_some_and(|((old, old_rest), (new, new_rest))| {
            old_rest.is_empty() && new_rest.is_empty() && holds(&old, &new)
        })
}

#[derive(Debug)]
enum Parsed<'a> {
    Word(&'a str),
    Integer(i128, i128),
    Array(Box<Self>),
    /// By name, as it is quoted.
    Object(Vec<(&'a str, Self)>),
}

fn holds(old: &Parsed<'_>, new: &Parsed<'_>) -> bool {
    match (old, new) {
        (Parsed::Word(old), Parsed::Word(new)) => old == new,
        (Parsed::Integer(old_min, old_max), Parsed::Integer(new_min, new_max)) => {
            new_min >= old_min && new_max <= old_max
        }
        (Parsed::Array(old), Parsed::Array(new)) => holds(old, new),
        (Parsed::Object(old), Parsed::Object(new)) => old.iter().all(|(name, old)| {
            new.iter().find(|(other, _)| other == name).is_some_and(|(_, new)| holds(old, new))
        }),
        _ => false,
    }
}

/// The form at the start of the text, and what follows it; `None` where it is none. Types nest as
/// deep as decoders go, which bounds the recursion.
fn parse(text: &str) -> Option<(Parsed<'_>, &str)> {
    if let Some(inner) = text.strip_prefix("array(") {
        let (element, rest) = parse(inner)?;
        return Some((Parsed::Array(Box::new(element)), rest.strip_prefix(')')?));
    }
    if let Some(mut rest) = text.strip_prefix("object(") {
        let mut fields = Vec::new();
        while !rest.starts_with(')') {
            let (name, after) = quoted(rest.strip_prefix(", ").unwrap_or(rest))?;
            let (form, after) = parse(after.strip_prefix(' ')?)?;
            fields.push((name, form));
            rest = after;
        }
        return Some((Parsed::Object(fields), rest.strip_prefix(')')?));
    }
    let end = text.find([',', ')']).unwrap_or(text.len());
    let (word, rest) = text.split_at_checked(end)?;
    let parsed = match word.strip_prefix(INTEGER) {
        Some(bounds) => {
            let (min, max) = bounds.split_once("..")?;
            Parsed::Integer(min.parse().ok()?, max.parse().ok()?)
        }
        None => Parsed::Word(word),
    };
    Some((parsed, rest))
}

/// The quoted name at the start of the text, with its quotes, and what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return text.split_at_checked(at.checked_add(1)?),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use rowtide_sdk::StringKind;

    use super::*;

    const TEXT: Form = Form::String(StringKind::Text { max_chars: Some(3) });

    fn object(fields: &[(&str, Form)]) -> String {
        let fields = fields.iter().map(|(name, form)| ((*name).to_owned(), form.clone()));
        without_lengths(&Form::Array(Box::new(Form::Object(fields.collect()))))
    }

    #[test]
    fn forms_are_taken_apart() {
        let parts = |form, mask, placeholder| FormParts { form, mask, placeholder };
        assert_eq!(FormParts::of("json"), parts("json", "none", "none"));
        let text = form_text(&TEXT, None, Some("a or b"));
        assert_eq!(FormParts::of(&text), parts("text", "none", "\"a or b\""));
        let masked = form_text(&TEXT, Some("sha256"), Some("x"));
        assert_eq!(FormParts::of(&masked), parts("masked sha256", "sha256", "\"x\""));
        let tricky = object(&[("a or b", TEXT)]);
        assert_eq!(FormParts::of(&tricky), parts(tricky.as_str(), "none", "none"));
    }

    #[test]
    fn narrower_forms_are_within_wider_ones() {
        let (small, big) = ("integer -32768..32767", "integer -2147483648..2147483647");
        assert!(is_within(big, small) && is_within(big, big) && !is_within(small, big));
        assert!(!is_within("text", "uuid") && !is_within("integer 0..", "integer 0..1"));
        let int = |max| Form::Integer { min: 0, max };
        let name = "q\"u, o\\te) é";
        let old = object(&[(name, int(9)), ("b", TEXT)]);
        assert!(is_within(&old, &object(&[("b", TEXT), ("c", TEXT), (name, int(5))])));
        assert!(!is_within(&old, &object(&[(name, int(10)), ("b", TEXT)])));
        assert!(!is_within(&old, &object(&[(name, int(9))])));
        assert!(is_within(&object(&[]), &old) && !is_within(&old, &object(&[])));
        assert!(!is_within("array(text)", "text") && !is_within("array(text", "array(text)"));
        assert!(!is_within("object(\"a", "object(\"b"));
    }
}
