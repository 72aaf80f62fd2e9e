//! The form of a master key file.

use zeroize::Zeroizing;

use crate::seal::KEY_BYTES;

/// The versions, the newest first.
pub(super) type Versions = Vec<(u64, Zeroizing<[u8; KEY_BYTES]>)>;

const HEAD: &str = "# AESP master keys, the newest first";

/// Reads the 32 bytes of one key, or lines of `version key` with the key in hexadecimal; what begins with `#` is for people.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(bytes: &[u8]) -> Result<Versions, String> {
    if let Ok(key) = <[u8; KEY_BYTES]>::try_from(bytes) {
        return Ok(vec![(1, Zeroizing::new(key))]);
    }
    let wrong = || {
        format!(
            "has {} bytes: neither the {KEY_BYTES} of one key nor lines of a version and its key in hexadecimal",
            bytes.len()
        )
    };
    let text = std::str::from_utf8(bytes).map_err(|_| wrong())?;
    let mut out = Versions::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let parts =
            line.split_once(' ').and_then(|(version, key)| Some((version.parse().ok()?, hex(key.trim())?)));
        let (version, key): (u64, _) = parts.ok_or_else(wrong)?;
        if version == 0 || out.last().is_some_and(|(later, _)| *later <= version) {
            return Err(format!("has version {version} out of its order: the newest comes first"));
        }
        out.push((version, key));
    }
    if out.is_empty() { Err(wrong()) } else { Ok(out) }
}

/// Writes the versions as lines.
pub(super) fn write(keys: &Versions) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(HEAD.len() + 1 + keys.len() * (2 * KEY_BYTES + 24)));
    text.push_str(HEAD);
    text.push('\n');
    for (version, key) in keys {
        text.push_str(&version.to_string());
        text.push(' ');
        for byte in key.iter() {
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from_digit(digit.into(), 16).expect("four bits"));
            }
        }
        text.push('\n');
    }
    text
}

fn hex(text: &str) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let mut out = Zeroizing::new([0; KEY_BYTES]);
    if text.len() != 2 * KEY_BYTES {
        return None;
    }
    for (byte, digits) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_they_were_written() {
        let keys: Versions = vec![(7, Zeroizing::new([0xA5; 32])), (1, Zeroizing::new([0x0F; 32]))];
        let text = write(&keys);
        assert!(text.contains(&format!("7 {}\n1 {}\n", "a5".repeat(32), "0f".repeat(32))), "{}", *text);
        assert_eq!(parse(text.as_bytes()).unwrap(), keys);
        assert_eq!(parse(&[9; 32]).unwrap(), vec![(1, Zeroizing::new([9; 32]))]);
    }

    #[test]
    fn what_is_no_key_file_says_what_is_wrong() {
        let key = "a5".repeat(32);
        let wrong = [
            (String::new(), "0 bytes"),
            ("x".repeat(31), "31 bytes"),
            ("1 a5".into(), "4 bytes"),
            (format!("0 {key}"), "out of its order"),
            (format!("1 {key}\n2 {key}"), "out of its order"),
            (format!("2 {key}\n2 {key}"), "out of its order"),
            (format!("one {key}"), "hexadecimal"),
            (format!("1 {}", "é".repeat(32)), "hexadecimal"),
        ];
        for (text, part) in wrong {
            let why = parse(text.as_bytes()).unwrap_err();
            assert!(why.contains(part), "{why}");
            assert!(!why.contains(&key), "the key is not shown");
        }
    }
}
