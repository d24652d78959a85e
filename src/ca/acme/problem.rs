//! What a CA says when it refuses: problem documents (RFC 7807, RFC 8555 section 6.7), or just a
//! status.

use std::time::Duration;

use serde_json::Value;

use crate::ca::IssueError;
use crate::clock::Time;
use crate::http::Response;
use crate::report::printable;

/// A problem document. Read leniently: it must never hide the error behind another one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Problem {
    /// The part after `urn:ietf:params:acme:error:`, or the whole URI; may be empty.
    pub kind: String,
    detail: String,
    /// For people: where to read and agree.
    pub instance: Option<String>,
    /// What the CA takes instead (RFC 8555 section 6.2).
    algorithms: Vec<String>,
    /// About single names.
    parts: Vec<(String, Problem)>,
}

/// An answer with a status that is no success.
#[derive(Clone, Debug)]
pub struct Rejection {
    pub status: u16,
    pub problem: Problem,
    retry_after: Option<Duration>,
}

const ACME: &str = "urn:ietf:params:acme:error:";

/// Subproblems beyond these are left out of the log.
const MOST_PARTS: usize = 20;

impl Problem {
    pub fn read(value: &Value) -> Problem {
        let text = |key| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let kind = text("type").unwrap_or_default();
        let list = |key| value.get(key).and_then(Value::as_array).into_iter().flatten();
        let algorithms = list("algorithms").filter_map(Value::as_str);
        Problem {
            algorithms: algorithms.take(MOST_PARTS).map(str::to_owned).collect(),
            kind: kind.strip_prefix(ACME).map(str::to_owned).unwrap_or(kind),
            detail: text("detail").or_else(|| text("title")).unwrap_or_default(),
            instance: text("instance"),
            parts: list("subproblems").take(MOST_PARTS).map(Problem::part).collect(),
        }
    }

    fn part(value: &Value) -> (String, Problem) {
        let name = value.pointer("/identifier/value").and_then(Value::as_str).unwrap_or_default();
        // One level: subproblems have none of their own.
        let mut problem = value.clone();
        if let Some(members) = problem.as_object_mut() {
            members.remove("subproblems");
        }
        (name.to_owned(), Problem::read(&problem))
    }

    /// One bounded line: `type: detail (type of name: detail)`.
    pub fn line(&self) -> String {
        let mut line = match (self.kind.as_str(), self.detail.as_str()) {
            ("" | "about:blank", "") => "no reason given".to_owned(),
            ("" | "about:blank", detail) => detail.to_owned(),
            (kind, "") => kind.to_owned(),
            (kind, detail) => format!("{kind}: {detail}"),
        };
        for (name, part) in &self.parts {
            let separator = if name.is_empty() { "" } else { ": " };
            line.push_str(&format!(" ({name}{separator}{})", part.line()));
        }
        printable(&line)
    }

    /// The final word of the CA, found inside an order or a challenge.
    pub fn refused(&self, what: &'static str, about_name: bool) -> IssueError {
        IssueError::Refused { what, problem: self.line(), about_name, retry_after: None }
    }

    /// Whether another name of the same account at the same CA may fare better.
    pub fn about_name(&self) -> bool {
        let about = |kind: &str| {
            matches!(
                kind,
                "caa"
                    | "connection"
                    | "dns"
                    | "incorrectResponse"
                    | "rejectedIdentifier"
                    | "tls"
                    | "unsupportedIdentifier"
            )
        };
        about(&self.kind) || self.parts.iter().any(|(_, part)| about(&part.kind))
    }
}

impl Rejection {
    pub fn read(response: &Response, now: Time) -> Rejection {
        let document = serde_json::from_slice::<Value>(&response.body).ok();
        let problem = document.filter(|d| d.get("type").or(d.get("detail")).is_some());
        Rejection {
            status: response.status,
            problem: problem.map_or_else(|| bare(response.status), |d| Problem::read(&d)),
            retry_after: response.retry_after(now),
        }
    }

    pub fn is(&self, kind: &str) -> bool {
        self.problem.kind == kind
    }

    /// Whether the CA may have looked for another signature: CAs differ in what they call that.
    pub fn is_about_key(&self) -> bool {
        self.is("unauthorized") || self.is("malformed")
    }

    /// Whether the same request may fare better later. Not what the CA does not implement (501).
    pub fn is_busy(&self) -> bool {
        let kind = self.problem.kind.as_str();
        matches!(kind, "rateLimited" | "serverInternal" | "badNonce")
            || matches!(self.status, 429 | 500 | 502..)
    }

    /// Sorts the answer by who has to act: the CA later, the administrator, or a new order.
    pub fn into_error(self, what: &'static str) -> IssueError {
        let problem = self.problem.line();
        match (self.problem.kind.as_str(), self.status) {
            ("userActionRequired", _) => {
                let place = self.problem.instance.map(|i| format!(", see \"{}\"", printable(&i)));
                IssueError::Configuration(format!("{what}: {problem}{}", place.unwrap_or_default()))
            }
            ("badSignatureAlgorithm", _) => {
                let taken = printable(&self.problem.algorithms.join(", "));
                let taken = if taken.is_empty() { "other ones" } else { &taken };
                IssueError::Configuration(format!(
                    "{what}: {problem}: the CA takes {taken}, set account_key to such a key"
                ))
            }
            (
                "badPublicKey"
                | "externalAccountRequired"
                | "invalidContact"
                | "invalidProfile"
                | "unsupportedContact",
                _,
            ) => IssueError::Configuration(format!("{what}: {problem}")),
            _ if self.is_busy() => {
                IssueError::Busy { what, problem, retry_after: self.retry_after }
            }
            _ => IssueError::Refused {
                what,
                problem,
                about_name: self.problem.about_name(),
                retry_after: self.retry_after,
            },
        }
    }
}

/// Stands for the document that did not come.
fn bare(status: u16) -> Problem {
    let words = match status {
        300..=399 => "redirect, which ACME does not allow here",
        400 => "bad request",
        401 => "unauthorized",
        403 => "forbidden",
        404 => "not found",
        405 => "method not allowed",
        408 => "request timeout",
        413 => "content too large",
        415 => "unsupported media type",
        429 => "too many requests",
        500 => "internal server error",
        502 => "bad gateway",
        503 => "service unavailable",
        504 => "gateway timeout",
        _ if status / 100 == 4 => "request refused",
        _ => "unexpected",
    };
    Problem { detail: format!("HTTP status {status} ({words})"), ..Problem::default() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Response {
        let headers = headers.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        Response { status, headers, body: body.as_bytes().to_vec() }
    }

    #[test]
    fn lines() {
        let rfc8555_6_7_1 = json!({
            "type": "urn:ietf:params:acme:error:malformed",
            "detail": "Some of the identifiers requested were rejected",
            "subproblems": [
                {
                    "type": "urn:ietf:params:acme:error:malformed",
                    "detail": "Invalid underscore in DNS name \"_example.org\"",
                    "identifier": {"type": "dns", "value": "_example.org"}
                },
                {
                    "type": "urn:ietf:params:acme:error:rejectedIdentifier",
                    "detail": "This CA will not issue for \"example.net\"",
                    "identifier": {"type": "dns", "value": "example.net"}
                }
            ]
        });
        for (document, line, about_name) in [
            (
                rfc8555_6_7_1,
                "malformed: Some of the identifiers requested were rejected \
                 (_example.org: malformed: Invalid underscore in DNS name \"_example.org\") \
                 (example.net: rejectedIdentifier: This CA will not issue for \"example.net\")",
                true,
            ),
            (json!({"type": "urn:ietf:params:acme:error:caa", "detail": "no"}), "caa: no", true),
            (json!({"type": "urn:example:own"}), "urn:example:own", false),
            (json!({"type": "about:blank", "title": "Forbidden"}), "Forbidden", false),
            (json!({"type": 1, "detail": null, "subproblems": 5}), "no reason given", false),
            (json!({"detail": "two\nlines\u{1b}[0m"}), "two lines [0m", false),
            (json!(null), "no reason given", false),
        ] {
            let problem = Problem::read(&document);
            assert_eq!((problem.line().as_str(), problem.about_name()), (line, about_name));
        }
        let long = json!({"detail": "x".repeat(10_000)});
        assert!(Problem::read(&long).line().len() < 1600); // bytes: see report.rs
    }

    #[test]
    fn who_has_to_act() {
        let acme = |kind: &str| format!(r#"{{"type":"{ACME}{kind}","detail":"d"}}"#);
        for (status, body, expected) in [
            (400, acme("rejectedIdentifier"), "refused, name: newOrder: rejectedIdentifier: d"),
            (403, acme("orderNotReady"), "refused: newOrder: orderNotReady: d"),
            (429, acme("rateLimited"), "busy: newOrder: rateLimited: d"),
            (500, acme("serverInternal"), "busy: newOrder: serverInternal: d"),
            (400, acme("badNonce"), "busy: newOrder: badNonce: d"),
            (503, "<html>".into(), "busy: newOrder: HTTP status 503 (service unavailable)"),
            (501, acme("notImplemented"), "refused: newOrder: notImplemented: d"),
            (418, "{}".into(), "refused: newOrder: HTTP status 418 (request refused)"),
            (
                302,
                "[]".into(),
                "refused: newOrder: HTTP status 302 (redirect, which ACME does not allow here)",
            ),
            (
                400,
                format!(
                    r#"{{"type":"{ACME}badSignatureAlgorithm","detail":"d","algorithms":["RS256",7,"ES384"]}}"#
                ),
                "configuration: newOrder: badSignatureAlgorithm: d: the CA takes RS256, ES384, set account_key to such a key",
            ),
            (
                400,
                acme("badSignatureAlgorithm"),
                "configuration: newOrder: badSignatureAlgorithm: d: the CA takes other ones, set account_key to such a key",
            ),
            (
                400,
                acme("badPublicKey"),
                "configuration: newOrder: badPublicKey: d",
            ),
            (
                403,
                r#"{"type":"urn:ietf:params:acme:error:userActionRequired","detail":"Terms of service have changed","instance":"https://example.com/acme/agreement/?token=W8Ih3PswD-8"}"#.into(),
                "configuration: newOrder: userActionRequired: Terms of service have changed, see \"https://example.com/acme/agreement/?token=W8Ih3PswD-8\"",
            ),
        ] {
            let error = Rejection::read(&answer(status, &[], &body), Time::default());
            let error = error.into_error("newOrder");
            let class = match &error {
                IssueError::Refused { about_name: true, .. } => "refused, name",
                IssueError::Refused { .. } => "refused",
                IssueError::Busy { .. } => "busy",
                IssueError::Configuration(_) => "configuration",
                _ => "other",
            };
            assert_eq!(format!("{class}: {error}"), expected);
        }
    }

    #[test]
    fn when_to_come_back() {
        // RFC 9110 section 5.6.7.
        let now = Time::from_secs(784_111_777);
        for (value, expected) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("Sat, 06 Nov 1993 08:49:37 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
            ("99999999999999", None),
        ] {
            let response = answer(503, &[("retry-after", value)], "");
            let error = Rejection::read(&response, now).into_error("order");
            assert_eq!(error.retry_after(), expected.map(Duration::from_secs), "{value}");
        }
    }
}
