//! Link header fields (RFC 8288 section 3), as far as ACME has use for them.

use crate::http::Response;

/// The targets of an answer's links of this relation, at most `most`. A field that breaks the
/// grammar counts up to there.
pub fn links(response: &Response, relation: &str, most: usize) -> Vec<String> {
    let fields = response.headers.iter().filter(|(name, _)| name == "link");
    let all = fields.flat_map(|(_, value)| parse(value));
    let wanted = all.filter(|link| link.is(relation)).map(|link| link.target.to_owned());
    wanted.take(most).collect()
}

struct Link<'a> {
    target: &'a str,
    /// Names and values as they came, in their order.
    parameters: Vec<(&'a str, &'a str)>,
}

impl Link<'_> {
    fn is(&self, relation: &str) -> bool {
        let value = |name: &str| {
            let found = self.parameters.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
            found.map(|(_, value)| *value)
        };
        // With an anchor it would be a link of something else.
        let relations = value("rel").filter(|_| value("anchor").is_none()).unwrap_or_default();
        relations.split_ascii_whitespace().any(|r| r.eq_ignore_ascii_case(relation))
    }
}

fn parse(mut rest: &str) -> Vec<Link<'_>> {
    let mut links = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let Some((target, after)) = rest.strip_prefix('<').and_then(|r| r.split_once('>')) else {
            return links;
        };
        let mut parameters = Vec::new();
        rest = after;
        while let Some(after) = rest.trim_start().strip_prefix(';') {
            let (parameter, after) = parameter(after);
            parameters.push(parameter);
            rest = after;
        }
        links.push(Link { target, parameters });
    }
}

/// One parameter, and what follows it. Quoted text with an escape in it is no relation that we
/// know: it is left as it is.
fn parameter(text: &str) -> ((&str, &str), &str) {
    let end = text.find(['=', ';', ',']).unwrap_or(text.len());
    let (name, after) = text.split_at(end);
    let Some(value) = after.strip_prefix('=') else { return ((name.trim(), ""), after) };
    let value = value.trim_start();
    let (value, after) = match value.strip_prefix('"') {
        Some(quoted) => quoted.split_at(end_of_quoted(quoted)),
        None => value.split_at(value.find([';', ',']).unwrap_or(value.len())),
    };
    ((name.trim(), value.trim()), after.strip_prefix('"').unwrap_or(after))
}

fn end_of_quoted(text: &str) -> usize {
    let mut escaped = false;
    let ends = |c: char| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    };
    text.find(ends).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_of_a_relation() {
        for (fields, expected) in [
            (vec![], ""),
            // RFC 8555 section 7.4.2.
            (
                vec!["<https://ca/dir>;rel=\"index\"", "<https://ca/1>;rel=\"alternate\""],
                "https://ca/1",
            ),
            (vec!["<a>; rel=alternate, <b>; rel=\"alternate\" ,<c>;rel=up"], "a b"),
            (vec!["<a>; REL=\"up Alternate\"; title=x"], "a"),
            (vec!["<a,b;c>; title=\"x\\\", <d>; rel=alternate\"; rel=alternate"], "a,b;c"),
            (vec!["<a>; rel=up; rel=alternate"], ""),
            (vec!["<a>; anchor=\"#x\"; rel=alternate, <b> ; rel = alternate"], "b"),
            (vec!["<a>; title; rel=alternate"], "a"),
            (vec!["<a>; rel=alternate <b>; rel=alternate"], "a"),
            (
                vec!["a; rel=alternate", "<a; rel=alternate", "<>", "<a>;", "<a>; rel=\"alternate"],
                "a",
            ),
            (
                vec!["<1>;rel=alternate,<2>;rel=alternate", "<3>;rel=alternate,<4>;rel=alternate"],
                "1 2 3",
            ),
        ] {
            let headers = fields.iter().map(|f| ("link".to_owned(), f.to_string())).collect();
            let response = Response { headers, ..Response::default() };
            assert_eq!(links(&response, "alternate", 3).join(" "), expected, "{fields:?}");
        }
    }
}
