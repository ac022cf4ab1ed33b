//! The pages behind the error codes: what a code means, how to see it, what to do.
//!
//! Each code has a file `RTnnnn.md` in this folder; all of them are part of the binary.

/// Code and page, in the order of the codes.
static PAGES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/pages.rs"));

/// One page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// The code: `RT1003`.
    pub code: &'static str,
    /// The page as Markdown.
    pub text: &'static str,
}

impl Page {
    /// The title without the code.
    pub fn title(&self) -> &'static str {
        let first = self.text.lines().next().unwrap_or_default();
        first.split_once(": ").map_or(first, |(_, title)| title)
    }
}

/// Every page, in the order of the codes.
pub fn all() -> impl Iterator<Item = Page> {
    PAGES.iter().map(|(code, text)| Page { code, text })
}

/// The page of a code, written as `RT1003`, `rt1003` or `1003`.
pub fn page(code: &str) -> Option<Page> {
    let code = code.trim().to_ascii_uppercase();
    let digits = code.strip_prefix("RT").unwrap_or(&code);
    all().find(|page| page.code.strip_prefix("RT") == Some(digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_found_as_people_write_codes() {
        for code in ["RT1003", "rt1003", " 1003 "] {
            let page = page(code).unwrap();
            assert_eq!((page.code, page.title()), ("RT1003", "Unknown field"));
        }
        assert_eq!(page("RT0000"), None);
        assert_eq!(page(""), None);
    }
}
