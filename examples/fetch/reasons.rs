//! Why a page could not be fetched: one line that says it, and whether to try again.

use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use greenloom::http::ureq;
use rustls::CertificateError;
use ureq::http::{Response, StatusCode, Uri};
use ureq::{Body, Error};

#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) reason: String,
    pub(crate) again: Again,
}

/// Whether there is hope.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Again {
    No,
    Soon,
    /// The server asks for this pause.
    After(Duration),
}

/// How far an attempt had come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stage {
    /// There is no answer yet.
    Before { timeout: Duration },
    /// So much of the body was read, of what the server had promised, if it had.
    Body { timeout: Duration, read: u64, promised: Option<u64> },
}

impl Failure {
    pub(crate) fn for_good(reason: impl Display) -> Failure {
        Failure { reason: reason.to_string(), again: Again::No }
    }

    fn may_heal(reason: impl Display) -> Failure {
        Failure { reason: reason.to_string(), again: Again::Soon }
    }

    pub(crate) fn to_save(path: &Path, error: &io::Error) -> Failure {
        Failure::for_good(format!("cannot save it as {}: {}", path.display(), bare(error)))
    }

    /// A whole answer, but not the one that was wanted.
    pub(crate) fn of_status(answer: &Response<Body>) -> Failure {
        let status = answer.status();
        let reason = status.to_string().replace(" <unknown status code>", "");
        let again = match status {
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => match retry_after(answer) {
                Some(pause) => Again::After(pause),
                None => Again::Soon,
            },
            _ => Again::No,
        };
        Failure { reason, again }
    }

    pub(crate) fn of(error: Error, stage: Stage) -> Failure {
        match (error, stage) {
            (Error::Timeout(_), Stage::Before { timeout }) => {
                Failure::may_heal(format!("no answer within {timeout:?}"))
            }
            (Error::Timeout(_), Stage::Body { timeout, read, .. }) => {
                Failure::may_heal(format!("still coming after {timeout:?}: {read} bytes so far"))
            }
            (Error::Io(error), Stage::Body { read, promised, .. }) if is_an_end(&error) => {
                Failure::may_heal(match promised {
                    Some(all) => format!("cut short: {read} of {all} bytes"),
                    None => format!("cut short after {read} bytes"),
                })
            }
            (Error::Io(error), _) => Failure::of_io(&error),
            (Error::HostNotFound, _) => Failure::may_heal("the host has no address"),
            (Error::TooManyRedirects, _) => Failure::for_good("redirected more than 10 times"),
            (Error::LargeResponseHeader(..), _) => Failure::for_good("the headers have no end"),
            (Error::BadUri(why), _) => Failure::for_good(format!("not a URL: {why}")),
            (Error::Protocol(why), Stage::Before { .. }) => {
                Failure::for_good(format!("the answer is not HTTP: {why}"))
            }
            (Error::Protocol(why), Stage::Body { .. }) => {
                Failure::for_good(format!("the body is not as HTTP wants it: {why}"))
            }
            (other, _) => Failure::for_good(other),
        }
    }

    fn of_io(error: &io::Error) -> Failure {
        if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
            return Failure::for_good(of_tls(tls));
        }
        match error.kind() {
            ErrorKind::ConnectionRefused => Failure::may_heal("connection refused"),
            ErrorKind::UnexpectedEof => Failure::may_heal("the server hung up without an answer"),
            ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => {
                Failure::may_heal("the server broke the connection")
            }
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
                Failure::may_heal("there is no way to the host")
            }
            ErrorKind::InvalidInput | ErrorKind::Unsupported => Failure::for_good(bare(error)),
            _ => Failure::may_heal(bare(error)),
        }
    }
}

fn is_an_end(error: &io::Error) -> bool {
    let tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
    let kinds =
        [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset, ErrorKind::ConnectionAborted];
    !tls && kinds.contains(&error.kind())
}

fn of_tls(error: &rustls::Error) -> String {
    use rustls::Error as Tls;
    let of_certificate = |what: &str| format!("the certificate is not good: {what}");
    match error {
        Tls::InvalidCertificate(why) => match why {
            CertificateError::UnknownIssuer => of_certificate("nobody we trust has signed it"),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                of_certificate("it has expired")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                of_certificate("its time has not come yet")
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                of_certificate("it is for another name")
            }
            CertificateError::BadSignature => of_certificate("its signature is wrong"),
            other => of_certificate(&other.to_string()),
        },
        Tls::InvalidMessage(_) => String::from("the server does not speak TLS"),
        other => format!("TLS failed: {other}"),
    }
}

/// The system's words without its number: "connection refused", not "Connection refused (os error
/// 111)".
fn bare(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error ").next().unwrap_or(&text);
    // What std puts between the host and what is wrong with it.
    let text = text.replace("failed to lookup address information: ", "");
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::from("it failed"),
    }
}

/// The pause that the server asks for. (It may name a date instead; then it is asked again as soon
/// as any other.)
fn retry_after(answer: &Response<Body>) -> Option<Duration> {
    let value = answer.headers().get("retry-after")?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

/// What can be fetched at all.
pub(crate) fn checked(url: &str) -> Result<Uri, Failure> {
    let not = |why: &dyn Display| Failure::for_good(format!("not a URL: {why}"));
    let uri: Uri = url.parse().map_err(|error| not(&error))?;
    let (Some("http" | "https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(not(&"it has to begin with http:// or https://"));
    };
    if authority.host().is_empty() {
        return Err(not(&"it names no host"));
    }
    // A port that is no number would pass for part of nothing, and 80 be used instead.
    let place = authority.as_str().rsplit('@').next().unwrap_or_default();
    if place != authority.host() && authority.port_u16().is_none() {
        return Err(not(&"its port is not a number"));
    }
    Ok(uri)
}

/// Fit for a terminal: what the list or a server put in does not act on it.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
