//! Values of EST's directives (RFC 7030).

use super::values::invalid;
use crate::http::url::target;

/// The URL that the operations stand behind (section 3.2.2), without a slash at its end. `url` is
/// one that the directive of this name took.
pub(super) fn base(url: &str, directive: &str) -> Result<String, String> {
    const BASE: &str = "/.well-known/est";
    let accepted = "an https URL that ends with \"/.well-known/est\" or, where the server has \
                    several CAs, \"/.well-known/est/LABEL\"";
    let base = url.strip_suffix('/').unwrap_or(url);
    let after = base.split_once(BASE).map(|(_, after)| after);
    let label = after.and_then(|after| after.strip_prefix('/'));
    let good = !base.contains(['?', '#'])
        && target(base).is_some_and(|target| target.https)
        && (after == Some("") || label.is_some_and(is_label));
    good.then(|| base.to_owned()).ok_or_else(|| invalid(url, directive, accepted))
}

fn is_label(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~%".contains(&b);
    !text.is_empty() && text.bytes().all(plain) && !OPERATIONS.contains(&text)
}

/// None of them may be a label.
const OPERATIONS: &[&str] =
    &["cacerts", "simpleenroll", "simplereenroll", "fullcmc", "serverkeygen", "csrattrs"];

/// The user-id of HTTP Basic authentication (RFC 7617).
pub(super) fn username(value: &str, directive: &str) -> Result<String, String> {
    let plain = |c: char| c != ':' && !c.is_control();
    let good = (1..=256).contains(&value.len()) && value.chars().all(plain);
    let accepted = "1 to 256 bytes without \":\" and control characters";
    good.then(|| value.to_owned()).ok_or_else(|| invalid(value, directive, accepted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases() {
        for (url, expected) in [
            ("https://est.example/.well-known/est", Some("https://est.example/.well-known/est")),
            (
                "https://est.example:8443/.well-known/est/",
                Some("https://est.example:8443/.well-known/est"),
            ),
            ("https://e/.well-known/est/web-1", Some("https://e/.well-known/est/web-1")),
            ("https://e/.well-known/est/web-1/", Some("https://e/.well-known/est/web-1")),
            ("https://e/ejbca/.well-known/est/web", Some("https://e/ejbca/.well-known/est/web")),
            ("https://est.example", None),
            ("https://est.example/", None),
            ("https://est.example/est", None),
            ("https://est.example/.well-known/estate", None),
            ("https://est.example/.well-known/est//", None),
            ("https://est.example/.well-known/est/a/b", None),
            ("https://est.example/.well-known/est/simpleenroll", None),
            ("https://est.example/.well-known/est?x", None),
            ("http://est.example/.well-known/est", None),
            ("http://127.0.0.1/.well-known/est", None),
        ] {
            assert_eq!(base(url, "url").ok().as_deref(), expected, "{url}");
        }
        let error = base("https://est.example/", "url").unwrap_err();
        assert!(error.starts_with("invalid value \"https://est.example/\" in \"url\", it must be an https URL that ends with \"/.well-known/est\""), "{error}");
    }
}
