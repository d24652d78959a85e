//! When something is due for an entry though no handshake asks. Pure, like `policy`; the spread
//! over time comes from what the certificate and the answer are, never from chance, so that a
//! reload, another worker and another host come to the same moment.

use std::time::Duration;

use super::backoff::{self, share_of};
use crate::bundle::Meta;
use crate::clock::{SKEW, Time};
use crate::evidence::{Evidence, Source};
use crate::facts::CertFacts;
use crate::policy::{self, Badness, Link, Standing};
use crate::settings::{Check, EntrySettings};

/// Why a certificate is to be replaced.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Why {
    /// It may not be served.
    Bad(Badness),
    /// It may be served, but lacks names of the entry.
    Names,
    /// It may be served, but not much longer.
    Renewal,
    /// It may be served, and is young, but the CA wants it replaced (RFC 9773).
    Suggested,
    /// A person asked for another one.
    Unwanted,
}

impl Why {
    /// Whether the budget counts it though it is served; what time brings about is not counted.
    pub fn is_budgeted(&self) -> bool {
        match self {
            Why::Renewal | Why::Unwanted | Why::Bad(Badness::Missing | Badness::Expired) => false,
            Why::Names | Why::Suggested | Why::Bad(_) => true,
        }
    }

    /// Whether the budget gives it half only: something must be left for a revocation.
    pub fn gets_half(&self) -> bool {
        matches!(self, Why::Names | Why::Suggested | Why::Bad(Badness::Names))
    }

    pub fn is_bad(&self) -> bool {
        matches!(self, Why::Bad(_))
    }

    /// Whether handshakes have to wait for it; `demanded`: some wait for the entry.
    pub fn is_waited_for(&self, demanded: bool) -> bool {
        self.is_bad() || (*self == Why::Names && demanded)
    }

    pub fn badness(&self) -> Option<&Badness> {
        match self {
            Why::Bad(badness) => Some(badness),
            Why::Names | Why::Renewal | Why::Suggested | Why::Unwanted => None,
        }
    }

    /// As a CA's program is told it.
    pub fn word(&self) -> &'static str {
        match self {
            Why::Renewal | Why::Suggested => "renewal",
            Why::Unwanted => "requested",
            why => why.reason().unwrap_or("missing"),
        }
    }

    /// As the status names it; None: it was replaced in time.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Why::Bad(Badness::Missing) | Why::Renewal | Why::Suggested | Why::Unwanted => None,
            Why::Bad(Badness::Broken(_) | Badness::KeyMismatch) => Some("broken"),
            Why::Bad(Badness::Expired) => Some("expired"),
            Why::Bad(Badness::Names) | Why::Names => Some("names"),
            Why::Bad(Badness::Revoked(reason) | Badness::IssuerRevoked(reason)) => {
                Some(reason.as_str())
            }
        }
    }
}

/// Why the certificate is to be replaced now, if it is.
pub fn why_replace(now: Time, standing: &Standing, settings: &EntrySettings) -> Option<Why> {
    if let Some(badness) = policy::badness(now, standing, settings, None) {
        return Some(Why::Bad(badness));
    }
    let certificate = standing.certificate.ok()?;
    if settings.names.iter().any(|n| !certificate.covers(n)) {
        return Some(Why::Names);
    }
    let (at, why) = due_by_time(certificate, standing, settings);
    (at <= now).then_some(why)
}

/// When a replacement is due.
pub fn replace_at(now: Time, standing: &Standing, settings: &EntrySettings) -> Time {
    match (why_replace(now, standing, settings), standing.certificate) {
        (None, Ok(certificate)) => due_by_time(certificate, standing, settings).0,
        _ => standing.next_issue.unwrap_or(now),
    }
}

/// When OCSP responders are to be asked; None: not without a handshake.
pub fn check_at(now: Time, standing: &Standing, settings: &EntrySettings) -> Option<Time> {
    let due = evidence_at(now, standing, settings, Source::Ocsp)?;
    let lacks_staple = policy::lacks_staple(now, standing, settings);
    let due = if lacks_staple { now } else { due };
    let next = standing.next_check.max(standing.next_ocsp);
    Some(begin(standing).max(next.unwrap_or(due)))
}

/// When CRLs are to be looked at; None: not without a handshake.
pub fn crl_at(now: Time, standing: &Standing, settings: &EntrySettings) -> Option<Time> {
    let due = evidence_at(now, standing, settings, Source::Crl)?;
    Some(begin(standing).max(standing.next_crl.unwrap_or(due)))
}

/// Before that no answer changes anything.
fn begin(standing: &Standing) -> Time {
    standing.certificate.map_or(Time::default(), |c| c.not_before - SKEW)
}

/// When the first certificate of the chain needs an answer of this kind.
fn evidence_at(
    now: Time,
    standing: &Standing,
    settings: &EntrySettings,
    source: Source,
) -> Option<Time> {
    let badness = policy::badness(now, standing, settings, None);
    let is_final = badness.as_ref().is_some_and(|b| !b.may_be_lifted());
    // Of a hold nobody would hear again if it were not asked about: its handshakes wait for a
    // replacement, or are refused.
    let idle = settings.check_interval.is_zero() && badness.is_none();
    if settings.check == Check::Off || idle || is_final {
        return None;
    }
    let asked = standing.links.iter().filter(|link| link.has(source));
    asked.map(|link| refresh_at(now, link, source, settings.check_interval)).min()
}

/// How often it is asked whether a hold was lifted.
fn spaced(interval: Duration) -> Duration {
    if interval.is_zero() { ONE_MINUTE } else { interval }
}

/// When another answer of this kind about a certificate is to be asked for.
pub fn refresh_at(now: Time, link: &Link, source: Source, interval: Duration) -> Time {
    let is_held = link.evidence.iter().any(Evidence::is_revoked);
    let interval = if is_held { spaced(interval) } else { interval };
    let refresh = |e: &Evidence| {
        let share = 0.5 + 0.3 * share_of(&e.certificate.0, e.checked_at.millis());
        // An answer at its end, or even past it within the skew, has no freshness to share out.
        let is_over = e.fresh_until(interval) < e.checked_at + ONE_SECOND;
        let soonest = if is_over { SPACING.min(interval / 2) } else { ONE_SECOND / 2 };
        let at = policy::refresh_at(e, interval, share);
        at.map(|at| at.max(e.checked_at + soonest))
    };
    let known = link.may_change(now).filter(|e| e.source == source);
    known.filter_map(refresh).max().unwrap_or(now)
}

/// Answers that are never fresh are not asked for faster than this without a handshake.
const SPACING: Duration = Duration::from_secs(5);
const ONE_SECOND: Duration = Duration::from_secs(1);
const ONE_MINUTE: Duration = Duration::from_secs(60);
const ONE_HOUR: Duration = Duration::from_secs(3600);

/// What comes first of all that is done without a handshake, and the next attempt after a failed
/// check: with `check_interval 0` a handshake makes it, from then on.
pub fn next_action(now: Time, standing: &Standing, settings: &EntrySettings) -> Time {
    let replace = replace_at(now, standing, settings);
    let again = standing.next_check.filter(|next| now < *next);
    let check = check_at(now, standing, settings);
    let crl = crl_at(now, standing, settings);
    [again, check, crl].into_iter().flatten().fold(replace, Time::min).max(now)
}

/// When the certificate is renewed: when its CA wants it, else for its age.
fn due_by_time(
    certificate: &CertFacts,
    standing: &Standing,
    settings: &EntrySettings,
) -> (Time, Why) {
    let Some(suggested) = standing.suggested_at else {
        return (renewal_at(certificate, standing.stored_at, settings), Why::Renewal);
    };
    let life = certificate.not_after.since(certificate.not_before);
    // A CA that speaks of the past about each new one would be asked without end, one that speaks
    // of the far future would let the certificate end.
    let stored = standing.stored_at.unwrap_or(certificate.not_before);
    let at = suggested.max(stored + ONE_HOUR.min(life / 10)).min(certificate.not_after - life / 20);
    (at, if is_early(certificate, at) { Why::Suggested } else { Why::Renewal })
}

/// The first third of a certificate's life is no time to renew it: something has happened.
pub fn is_early(certificate: &CertFacts, at: Time) -> bool {
    at < certificate.not_before + certificate.not_after.since(certificate.not_before) / 3
}

/// When the certificate is renewed for its age: a little earlier than asked for, so that entries
/// that were issued together are not renewed together.
pub fn renewal_at(
    certificate: &CertFacts,
    stored_at: Option<Time>,
    settings: &EntrySettings,
) -> Time {
    let life = certificate.not_after.since(certificate.not_before);
    let early = life.mul_f64(0.03 * share_of(&certificate.fingerprint.0, 0));
    let at = policy::renew_at(certificate, settings.renew_before) - early;
    // `renew_before` may be longer than the CA lets certificates live, or the CA may backdate
    // them by more: without this bound each new one would be due at once, and the CA asked
    // without end.
    at.max(stored_at.unwrap_or(certificate.not_before) + life / 10)
}

/// Whether a certificate that comes now has hardly any life left: the next one may be like it.
pub fn is_short_lived(certificate: &CertFacts, now: Time) -> bool {
    let life = certificate.not_after.since(certificate.not_before);
    certificate.not_after < now + (life / 10).max(Duration::from_secs(5))
}

/// Before that a replacement would come too soon after the last one, whatever the budget says.
pub fn rests_until(why: &Why, now: Time, meta: &Meta) -> Option<Time> {
    let rest = match why {
        Why::Bad(Badness::Expired) | Why::Renewal | Why::Suggested if meta.short_lived > 0 => {
            backoff::issue(meta.short_lived, None, 0.5)
        }
        // Another host may be configured with other names: it would replace ours, and we its.
        Why::Names if meta.replaced.as_ref().is_some_and(|r| r.reason == "names") => NAMES_SPACING,
        _ => return None,
    };
    // Not stored by a clock that was set back since.
    meta.stored_at.filter(|at| *at <= now).map(|at| at + rest).filter(|until| now < *until)
}

const NAMES_SPACING: Duration = Duration::from_secs(3600);

/// How long after the start of a worker the entry with this index is first looked at, of so many:
/// a few begin at once, a thousand are spread so that no CA sees them in one instant.
pub fn first_delay(index: usize, entries: usize) -> Duration {
    const AT_ONCE: usize = 16;
    const EACH: Duration = Duration::from_millis(20);
    let spread = EACH * u32::try_from(entries.saturating_sub(AT_ONCE)).unwrap_or(u32::MAX);
    spread.min(Duration::from_secs(60)).mul_f64(share_of("first", index as i64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Defect;
    use crate::evidence::{Evidence, Reason, Source, Status};
    use crate::facts::{Fingerprint, Serial};
    use crate::settings::{EntryName, KeyType, RenewBefore};

    const DAY: i64 = 86400;

    fn t(secs: i64) -> Time {
        Time::from_secs(secs)
    }

    fn settings() -> EntrySettings {
        EntrySettings {
            name: EntryName::new("a.example").unwrap(),
            names: vec!["a.example".into()],
            cas: vec!["corp".into()],
            check: Check::Soft,
            check_interval: Duration::from_secs(3600),
            timeout: Duration::from_secs(10),
            renew_before: RenewBefore::Percent(33),
            key: KeyType::Ecdsa256,
            stapling: true,
            must_staple: false,
        }
    }

    fn facts() -> CertFacts {
        CertFacts {
            fingerprint: Fingerprint("f".into()),
            serial: Serial("01".into()),
            not_before: t(0),
            not_after: t(100 * DAY),
            names: vec!["a.example".into()],
            issuer: "CN=ca".into(),
            ocsp_urls: vec!["http://o".into()],
            crl_urls: vec![],
            must_staple: false,
        }
    }

    fn evidence(status: Status, checked_at: Time) -> Evidence {
        Evidence {
            certificate: Fingerprint("f".into()),
            serial: Serial("01".into()),
            source: Source::Ocsp,
            status,
            this_update: checked_at,
            next_update: None,
            checked_at,
            responder: "http://o".into(),
        }
    }

    /// The links are leaked: tests are short.
    fn standing<'a>(facts: &'a CertFacts, evidence: &[Evidence]) -> Standing<'a> {
        let leaf = Link { evidence: evidence.to_vec(), has_ocsp: true, has_crl: false };
        Standing {
            certificate: Ok(facts),
            links: Box::leak(Box::new([leaf])),
            stapled_until: None,
            suggested_at: None,
            stored_at: None,
            next_check: None,
            next_ocsp: None,
            next_crl: None,
            next_issue: None,
        }
    }

    #[test]
    fn why() {
        let revoked = Status::Revoked { reason: Reason::Superseded, at: t(1) };
        let revoked = [evidence(revoked, t(1))];
        let other = CertFacts { names: vec!["b.example".into()], ..facts() };
        let (facts, settings) = (facts(), settings());
        let why = |now, standing: &Standing| why_replace(now, standing, &settings);
        let fine = standing(&facts, &[]);
        assert_eq!(why(t(DAY), &fine), None);
        assert_eq!(why(t(68 * DAY), &fine), Some(Why::Renewal));
        assert_eq!(why(t(101 * DAY), &fine), Some(Why::Bad(Badness::Expired)));
        assert_eq!(why(t(DAY), &standing(&other, &[])), Some(Why::Names));
        let bad = Some(Why::Bad(Badness::Revoked(Reason::Superseded)));
        assert_eq!(why(t(DAY), &standing(&facts, &revoked)), bad);
        let missing = Standing { certificate: Err(&Defect::Missing), ..fine.clone() };
        assert_eq!(why(t(DAY), &missing), Some(Why::Bad(Badness::Missing)));
        // Not yet valid is no reason.
        assert_eq!(why(t(-DAY), &fine), None);
    }

    #[test]
    fn budget_counts_what_time_does_not_bring() {
        for (why, budgeted, reason) in [
            (Why::Bad(Badness::Missing), false, None),
            (Why::Bad(Badness::Expired), false, Some("expired")),
            (Why::Bad(Badness::Broken("x".into())), true, Some("broken")),
            (Why::Bad(Badness::KeyMismatch), true, Some("broken")),
            (Why::Bad(Badness::Revoked(Reason::KeyCompromise)), true, Some("keyCompromise")),
            (Why::Names, true, Some("names")),
            (Why::Renewal, false, None),
            (Why::Unwanted, false, None),
        ] {
            assert_eq!((why.is_budgeted(), why.reason()), (budgeted, reason), "{why:?}");
        }
    }

    #[test]
    fn renewal_is_bounded() {
        let (facts, mut settings) = (facts(), settings());
        let at = renewal_at(&facts, None, &settings);
        assert!(t(64 * DAY) <= at && at <= t(67 * DAY), "{at}");
        for before in
            [RenewBefore::Time(Duration::from_secs(365 * 86400)), RenewBefore::Percent(99)]
        {
            settings.renew_before = before;
            assert_eq!(renewal_at(&facts, None, &settings), t(10 * DAY), "{before:?}");
            let late = Some(t(50 * DAY));
            assert_eq!(renewal_at(&facts, late, &settings), t(60 * DAY), "{before:?}");
        }
    }

    #[test]
    fn what_follows_too_soon_is_spaced() {
        use crate::bundle::Replaced;
        let at = |life: (i64, i64), now| {
            let facts = CertFacts { not_before: t(life.0), not_after: t(life.1), ..facts() };
            is_short_lived(&facts, t(now))
        };
        for (life, now, short) in [
            ((0, 100 * DAY), 0, false),
            ((0, 100 * DAY), 91 * DAY, true),
            ((0, 30), 0, false), // a test CA's
            ((0, 4), 0, true),
        ] {
            assert_eq!(at(life, now), short, "{life:?} {now}");
        }
        let expired = Why::Bad(Badness::Expired);
        let serial = Serial("01".into());
        let named = |reason: &str| {
            let reason = reason.into();
            Some(Replaced { serial: serial.clone(), reason, at: t(0), seconds: 1.0 })
        };
        // Why, short-lived ones in a row, what was replaced then, stored at, now, until.
        for (why, short_lived, replaced, stored_at, now, want) in [
            (&expired, 0, None, 0, 1, None),
            (&expired, 1, None, 0, 1, Some(10)),
            (&expired, 1, None, 0, 10, None),
            (&expired, 2, None, 0, 1, Some(30)),
            (&expired, 99, None, 0, 1, Some(3600)),
            (&expired, 99, None, 50, 1, None), // the clock was set back
            (&Why::Names, 0, named("names"), 0, 1, Some(3600)),
            (&Why::Names, 0, named("names"), 0, 3600, None),
            (&Why::Names, 0, named("superseded"), 0, 1, None),
            (&Why::Names, 0, None, 0, 1, None),
            (&Why::Renewal, 0, named("names"), 0, 1, None),
            (&Why::Renewal, 1, None, 0, 1, Some(10)),
        ] {
            let meta = Meta { ca: None, stored_at: Some(t(stored_at)), replaced, short_lived };
            assert_eq!(rests_until(why, t(now), &meta), want.map(t), "{why:?} {short_lived}");
        }
    }

    #[test]
    fn replacement_due() {
        let (facts, settings) = (facts(), settings());
        let fine = standing(&facts, &[]);
        let at = renewal_at(&facts, None, &settings);
        assert_eq!(replace_at(t(DAY), &fine, &settings), at);
        assert_eq!(replace_at(t(70 * DAY), &fine, &settings), t(70 * DAY));
        let failed = Standing { next_issue: Some(t(71 * DAY)), ..fine };
        assert_eq!(replace_at(t(70 * DAY), &failed, &settings), t(71 * DAY));
        let missing = Standing { certificate: Err(&Defect::Missing), ..standing(&facts, &[]) };
        assert_eq!(replace_at(t(DAY), &missing, &settings), t(DAY));
    }

    #[test]
    fn check_due() {
        let (facts, settings) = (facts(), settings());
        let off = EntrySettings { check: Check::Off, ..settings.clone() };
        let each = EntrySettings { check_interval: Duration::ZERO, ..settings.clone() };
        let good = [evidence(Status::Good, t(DAY))];
        let unknown = [evidence(Status::Unknown, t(DAY))];
        let revoked = Status::Revoked { reason: Reason::Unspecified, at: t(1) };
        let revoked = [evidence(revoked, t(DAY))];
        let now = t(DAY + 60);

        let at = check_at(now, &standing(&facts, &good), &settings).unwrap();
        assert!(t(DAY + 1800) <= at && at <= t(DAY + 2880), "{at}");
        let ended = Evidence { next_update: Some(t(DAY - 60)), ..good[0].clone() };
        let at = check_at(now, &standing(&facts, &[ended]), &settings);
        assert_eq!(at, Some(t(DAY + 5)), "not each second");
        assert_eq!(check_at(now, &standing(&facts, &[]), &settings), Some(now));
        assert_eq!(check_at(now, &standing(&facts, &unknown), &settings), Some(now));
        let set_back = t(DAY - 3600);
        assert_eq!(check_at(set_back, &standing(&facts, &good), &settings), Some(set_back));
        assert_eq!(check_at(now, &standing(&facts, &revoked), &settings), None);
        assert_eq!(check_at(now, &standing(&facts, &good), &off), None);
        assert_eq!(check_at(now, &standing(&facts, &good), &each), None);
        let failed = Standing { next_check: Some(t(DAY + 90)), ..standing(&facts, &good) };
        assert_eq!(check_at(now, &failed, &settings), Some(t(DAY + 90)));
        let mute = Standing { links: &[], ..standing(&facts, &[]) };
        assert_eq!(check_at(now, &mute, &settings), None);
        // A certificate of the future is asked about once it may be served.
        assert_eq!(check_at(t(-DAY), &standing(&facts, &[]), &settings), Some(t(-300)));
    }

    #[test]
    fn the_next_attempt_is_told_though_a_handshake_makes_it() {
        let (facts, settings) = (facts(), settings());
        let each = EntrySettings { check_interval: Duration::ZERO, ..settings };
        let failed = Standing { next_check: Some(t(DAY + 5)), ..standing(&facts, &[]) };
        assert_eq!(next_action(t(DAY), &failed, &each), t(DAY + 5));
        let renewal = replace_at(t(DAY), &failed, &each);
        assert_eq!(next_action(t(DAY + 5), &failed, &each), renewal);
    }

    #[test]
    fn few_begin_at_once_and_many_do_not() {
        assert_eq!(first_delay(3, 16), Duration::ZERO);
        let delays: Vec<Duration> = (0..1000).map(|i| first_delay(i, 1000)).collect();
        let busiest = (0..20).map(|s| delays.iter().filter(|d| d.as_secs() == s).count()).max();
        assert!(busiest.is_some_and(|n| n < 100), "{busiest:?}");
        assert!(delays.iter().all(|d| *d < Duration::from_secs(20)));
    }
}
