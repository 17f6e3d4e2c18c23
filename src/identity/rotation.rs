//! The authorities over time: one signs, the next one becomes known before it signs, the old ones stay known until they
//! expire.
//!
//! ```text
//!            introduce(2)          promote(2)                 expiry(1)
//!  ──────────────┼─────────────────────┼──────────────────────────┼──────────►
//!   signs:   1   │          1          │             2            │    2
//!   trusted: 1   │        1, 2         │            1, 2          │    2
//! ```
//!
//! Between `introduce` and `promote` lies at least the lifetime of a certificate: whoever renews its certificate in time has by
//! then been given the new authority with it, Envoys that nobody mounts Secrets into included. An authority signs nothing
//! that outlives it, so that with it expires all it has signed.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use thiserror::Error;

use super::{Authority, AuthorityError, Bundle, Facts, Lifetimes, after, backdate, before, renew_at};

/// The key of the current authority's certificate in a Secret, or the file's name.
const CURRENT_CERTIFICATE: &str = "tls.crt";
const CURRENT_KEY: &str = "tls.key";
const NEXT_CERTIFICATE: &str = "next.crt";
const NEXT_KEY: &str = "next.key";
/// All that are trusted.
const BUNDLE: &str = "ca.crt";

/// The authorities that there are at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Authorities {
    /// The one that signs.
    current: Authority,
    /// The one that will.
    next: Option<Authority>,
    /// All that are trusted.
    trusted: Bundle,
}

/// Stored authorities that can not be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MalformedAuthorities {
    /// A part is not there.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A part is malformed.
    #[error("{part}: {reason}")]
    Part {
        /// The key in the Secret, or the file's name.
        part: &'static str,
        /// What is wrong with it.
        reason: AuthorityError,
    },
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// A first authority was made, which signs at once: there was none, or none that can sign.
    Created,
    /// The next authority was made; it is trusted from now on and signs later.
    Introduced,
    /// The next authority signs from now on.
    Promoted,
    /// Authorities that have expired are no longer trusted.
    Forgotten,
}

impl Authorities {
    /// A first authority, which signs at once.
    ///
    /// # Errors
    ///
    /// When no random numbers can be had.
    pub fn create(now: Timestamp, lifetimes: Lifetimes) -> Result<Self, AuthorityError> {
        let current = Authority::generate(now, lifetimes)?;
        let mut trusted = Bundle::default();
        trusted.add(current.certificate().clone());
        Ok(Self { current, next: None, trusted })
    }

    /// Reads what [`Authorities::to_data`] wrote.
    ///
    /// # Errors
    ///
    /// When a part that is needed is missing or malformed.
    pub fn read<'a>(part: impl Fn(&'static str) -> Option<&'a [u8]>) -> Result<Self, MalformedAuthorities> {
        let needed = |name| part(name).ok_or(MalformedAuthorities::Missing(name));
        let malformed = |part| move |reason| MalformedAuthorities::Part { part, reason };
        let current = Authority::read(needed(CURRENT_CERTIFICATE)?, needed(CURRENT_KEY)?);
        let current = current.map_err(malformed(CURRENT_CERTIFICATE))?;
        let next = match (part(NEXT_CERTIFICATE), part(NEXT_KEY)) {
            (Some(certificate), Some(key)) => {
                Some(Authority::read(certificate, key).map_err(malformed(NEXT_CERTIFICATE))?)
            }
            (None, None) => None,
            (None, Some(_)) => return Err(MalformedAuthorities::Missing(NEXT_CERTIFICATE)),
            (Some(_), None) => return Err(MalformedAuthorities::Missing(NEXT_KEY)),
        };
        let mut trusted =
            Bundle::read(needed(BUNDLE)?).map_err(|error| malformed(BUNDLE)(AuthorityError::Pem(error)))?;
        for authority in [Some(&current), next.as_ref()].into_iter().flatten() {
            trusted.add(authority.certificate().clone());
        }
        Ok(Self { current, next, trusted })
    }

    /// A first authority in the place of stored ones that can not be read. Those that can be read of the trusted ones stay
    /// so, and with them what they have signed.
    ///
    /// # Errors
    ///
    /// When no random numbers can be had.
    pub fn mend<'a>(
        part: impl Fn(&'static str) -> Option<&'a [u8]>,
        now: Timestamp,
        lifetimes: Lifetimes,
    ) -> Result<Self, AuthorityError> {
        let mut mended = Self::create(now, lifetimes)?;
        for name in [BUNDLE, CURRENT_CERTIFICATE, NEXT_CERTIFICATE] {
            if let Some(Ok(bundle)) = part(name).map(Bundle::read) {
                mended.trusted.extend(&bundle);
            }
        }
        Ok(mended)
    }

    /// What is stored, by key of the Secret or name of the file: private keys among it.
    pub fn to_data(&self) -> BTreeMap<&'static str, String> {
        let mut data = BTreeMap::from([(BUNDLE, self.trusted.to_pem())]);
        let mut store = |authority: &Authority, certificate, key| {
            let credentials = authority.credentials();
            data.insert(certificate, credentials.chain.clone());
            data.insert(key, credentials.key.expose().to_owned());
        };
        store(&self.current, CURRENT_CERTIFICATE, CURRENT_KEY);
        if let Some(next) = &self.next {
            store(next, NEXT_CERTIFICATE, NEXT_KEY);
        }
        data
    }

    /// All keys that [`Authorities::to_data`] may write.
    pub const PARTS: [&'static str; 5] = [CURRENT_CERTIFICATE, CURRENT_KEY, NEXT_CERTIFICATE, NEXT_KEY, BUNDLE];

    /// The one that signs.
    pub fn current(&self) -> &Authority {
        &self.current
    }

    /// The one that will sign, once there is one.
    pub fn next(&self) -> Option<&Authority> {
        self.next.as_ref()
    }

    /// All that are trusted: by servers when clients come, and by clients when servers answer.
    pub fn trusted(&self) -> &Bundle {
        &self.trusted
    }

    /// When the next step is due.
    pub fn step_at(&self, lifetimes: Lifetimes) -> Timestamp {
        let next_step = match &self.next {
            None => introduce_at(self.current.facts(), lifetimes),
            Some(next) => promote_at(next.facts(), self.current.facts(), lifetimes),
        };
        let expiries =
            self.trusted.certificates().iter().filter_map(|one| Some(after(Facts::of(one).ok()?.not_after, SECOND)));
        expiries.fold(next_step, Timestamp::min)
    }

    /// Takes the steps that are due, and says which. Nothing when none is.
    ///
    /// # Errors
    ///
    /// When no random numbers can be had.
    pub fn advance(&mut self, now: Timestamp, lifetimes: Lifetimes) -> Result<Vec<Step>, AuthorityError> {
        let mut steps = Vec::new();
        if let Some(next) = &self.next
            && now >= promote_at(next.facts(), self.current.facts(), lifetimes)
        {
            self.current = next.clone();
            self.next = None;
            steps.push(Step::Promoted);
        }
        if self.current.facts().not_after < now {
            // Nobody was there in all that time; what it has signed has expired too.
            self.current = Authority::generate(now, lifetimes)?;
            self.next = None;
            self.trusted.add(self.current.certificate().clone());
            steps.push(Step::Created);
        }
        if self.next.is_none() && now >= introduce_at(self.current.facts(), lifetimes) {
            let next = Authority::generate(now, lifetimes)?;
            self.trusted.add(next.certificate().clone());
            self.next = Some(next);
            steps.push(Step::Introduced);
        }
        let expired =
            |certificate: &CertificateDer<'_>| Facts::of(certificate).is_ok_and(|facts| facts.not_after < now);
        if self.trusted.certificates().iter().any(expired) {
            let mut left = Bundle::default();
            self.trusted.certificates().iter().filter(|one| !expired(one)).for_each(|one| left.add(one.clone()));
            self.trusted = left;
            steps.push(Step::Forgotten);
        }
        Ok(steps)
    }
}

/// A certificate is valid to the end of the second that it names.
const SECOND: std::time::Duration = std::time::Duration::from_secs(1);

/// After two thirds of the authority's life; earlier when less than three lifetimes of a certificate would be left then.
fn introduce_at(current: &Facts, lifetimes: Lifetimes) -> Timestamp {
    renew_at(current.not_before, current.not_after).min(before(current.not_after, 3 * lifetimes.certificate()))
}

/// A certificate's lifetime after the next authority was made. But when there was nobody for so long that the current one is
/// about to expire, there is no more time to lose: what it signs now would live for a third of its time only.
fn promote_at(next: &Facts, current: &Facts, lifetimes: Lifetimes) -> Timestamp {
    let made = after(next.not_before, backdate(lifetimes.authority()));
    after(made, lifetimes.certificate()).min(before(current.not_after, lifetimes.certificate() / 3))
}
