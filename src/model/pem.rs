//! PEM (RFC 7468): what is wrong with a text, and how what was read of one is written again.

use rustls::pki_types::pem::Error;

/// What is wrong with a PEM text, to follow its name. Says nothing of what stands in it: the text may be a private key, and
/// the library's own words repeat the line that they are about.
pub fn pem_problem(error: &Error) -> &'static str {
    match error {
        Error::IllegalSectionStart { .. } => {
            "has broken lines: BEGIN and END must each stand on a line of their own, with five dashes on both sides"
        }
        Error::MissingSectionEnd { .. } => {
            "has a section without its END, or broken lines: BEGIN and END must each stand on a line of their own and name the \
             same"
        }
        Error::Base64Decode(_) => "has a section that is not base64 between its BEGIN and its END",
        Error::NoItemsFound => "has no such section",
        Error::SectionTooLarge => "has a section that is too large",
        Error::Io(_) => "can not be read",
        _ => "is not PEM",
    }
}

/// The same of a text that should hold a private key.
pub fn private_key_problem(error: &Error) -> &'static str {
    match error {
        Error::NoItemsFound => {
            "has no private key: it needs a section PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY; one that is encrypted can \
             not be used"
        }
        other => pem_problem(other),
    }
}

/// One section, in lines of 64 characters.
pub fn pem_section(label: &str, der: &[u8]) -> String {
    let lines = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(label, der), lines)
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::{PrivateKeyDer, pem::PemObject};

    use super::*;

    #[test]
    fn no_word_about_a_mangled_key_comes_from_the_key() {
        let key = pem_section("PRIVATE KEY", b"nobody may see this, not even as a list of bytes");
        let body: String = key.lines().filter(|line| !line.starts_with('-')).collect();
        for (text, says) in [
            (key.replace('\n', " "), "broken lines"),
            (key.replace('\n', ""), "broken lines"),
            (key.trim_end().replace('\n', "\\n"), "broken lines"),
            (key.replace("-----END", "----END"), "without its END"),
            (key.replace(&body, "!secret!"), "not base64"),
            (format!("-----BEGIN {body}-----\nx\n"), "without its END"),
            (format!("-----BEGIN {body}\nx\n"), "broken lines"),
            (body.clone(), "no private key"),
            (key.replace("PRIVATE", "ENCRYPTED PRIVATE"), "encrypted"),
        ] {
            let error = PrivateKeyDer::from_pem_slice(text.as_bytes()).expect_err("it is mangled");
            let said = private_key_problem(&error);
            assert!(said.contains(says), "{text}: {said}");
            assert!(!said.contains(&body) && !said.contains("secret"), "{said}");
        }
    }
}
