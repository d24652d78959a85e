//! Values as nginx writes them, and the one form in which a wrong one is refused.

use std::str::FromStr;
use std::time::Duration;

/// The refusal of a value.
pub(super) fn invalid(value: &str, directive: &str, accepted: &str) -> String {
    format!("invalid value \"{}\" in \"{directive}\", it must be {accepted}", shown(value))
}

/// A value as a message shows it: on one line and short. nginx cuts messages at 1024 bytes, and
/// what is accepted stands at their end.
pub(super) fn shown(value: &str) -> String {
    const LIMIT: usize = 128;
    let mut text = String::new();
    for (i, c) in value.chars().enumerate() {
        match c {
            _ if i == LIMIT => return text + "...",
            c if c.is_control() => text.extend(c.escape_default()),
            c => text.push(c),
        }
    }
    text
}

/// `"a", "b" or "c"`.
pub(super) fn one_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names: Vec<String> = names.into_iter().map(|n| format!("\"{n}\"")).collect();
    match (names.pop(), names.len()) {
        (None, _) => String::new(),
        (Some(last), 0) => last,
        (Some(last), _) => format!("{} or {last}", names.join(", ")),
    }
}

/// `"a", "b"`.
pub(super) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(|n| format!("\"{n}\"")).collect();
    names.join(", ")
}

/// The words that a directive accepts, and what they mean.
pub(super) type Choices<T> = &'static [(&'static str, T)];

/// Letter case does not count, as with nginx's own words.
pub(super) fn choice<T: Copy>(
    choices: Choices<T>,
    value: &str,
    directive: &str,
) -> Result<T, String> {
    let found = choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(value));
    found
        .map(|(_, meaning)| *meaning)
        .ok_or_else(|| invalid(value, directive, &one_of(choices.iter().map(|(word, _)| *word))))
}

/// The word for a meaning.
pub(super) fn word<T: PartialEq>(choices: Choices<T>, meaning: &T) -> &'static str {
    choices.iter().find(|(_, m)| m == meaning).map_or("", |(word, _)| word)
}

/// A number of digits only: `FromStr` alone takes a sign.
pub(super) fn number<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

const UNITS: &[(&str, u64)] = &[
    ("y", 365 * DAY),
    ("M", 30 * DAY),
    ("w", 7 * DAY),
    ("d", DAY),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];
const DAY: u64 = 86_400_000;

/// A time as in nginx: `1h 30m`, larger units first and each once; a number without unit is
/// seconds. What nginx takes by accident (`h5`, `30 5`) is refused.
pub fn parse_time(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut units = UNITS;
    let mut total: u64 = 0;
    loop {
        let (digits, after) = split(rest, |c| c.is_ascii_digit());
        let (unit, after) = split(after, |c| c.is_ascii_alphabetic());
        let unit = if unit.is_empty() && after.is_empty() { "s" } else { unit };
        let at = units.iter().position(|(name, _)| *name == unit)?;
        let value: u64 = number(digits)?;
        total = total.checked_add(value.checked_mul(units[at].1)?)?;
        rest = after.trim_start_matches(' ');
        units = &units[at + 1..];
        if rest.is_empty() {
            break;
        }
    }
    // nginx and the clock count signed milliseconds.
    i64::try_from(total).is_ok().then_some(Duration::from_millis(total))
}

fn split(text: &str, take: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !take(c)).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let good: &[(&str, u64)] = &[
            ("0", 0),
            ("0s", 0),
            ("30", 30_000),
            ("250ms", 250),
            ("10s", 10_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("1h 30m", 5_400_000),
            ("1h30m", 5_400_000),
            ("1h  30m ", 5_400_000),
            ("1h 30", 3_630_000),
            ("1m 1ms", 60_001),
            ("7d", 7 * DAY),
            ("2w", 14 * DAY),
            ("1M", 30 * DAY),
            ("1y 1M 1w 1d 1h 1m 1s 1ms", 403 * DAY + 3_661_001),
            ("9223372036854775807ms", i64::MAX as u64),
        ];
        for (text, ms) in good {
            assert_eq!(parse_time(text), Some(Duration::from_millis(*ms)), "{text}");
        }
        let bad = [
            "",
            " ",
            "h",
            "h5",
            "-1",
            "+1",
            "1.5h",
            "1x",
            "1H",
            "1hm",
            "30 5",
            "30 ",
            " 30",
            "1s 5",
            "1m 1h",
            "1h 1h",
            "1ms 1s",
            "1h,30m",
            "1\u{0660}s",
            "9223372036854775808ms",
            "9223372036854775807",
            "18446744073709551615s",
            "99999999999999999999",
            "292471209y",
        ];
        for text in bad {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn numbers() {
        assert_eq!(number::<usize>("12"), Some(12));
        for bad in ["", "-1", "+1", "1 ", "0x1", "99999999999999999999"] {
            assert_eq!(number::<usize>(bad), None, "{bad}");
        }
    }

    #[test]
    fn values_stay_on_one_line() {
        assert_eq!(shown("a\nb\u{1b}"), "a\\nb\\u{1b}");
        assert_eq!(shown(&"x".repeat(128)), "x".repeat(128));
        assert_eq!(shown(&"x".repeat(129)), format!("{}...", "x".repeat(128)));
    }

    #[test]
    fn words() {
        assert_eq!(one_of(["a"]), "\"a\"");
        assert_eq!(one_of(["a", "b", "c"]), "\"a\", \"b\" or \"c\"");
    }
}
