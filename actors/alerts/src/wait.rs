use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A time span as people write it: `500ms`, `90s`, `5m`, `2h`, `30d`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wait(pub Duration);

/// The text is no time span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a time such as 500ms, 90s, 5m, 2h or 30d is expected")]
pub struct NoWait;

/// The units, the longest first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Wait {
    pub(crate) const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// Returns it in milliseconds.
    pub(crate) fn ms(self) -> i64 {
        i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX)
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.0.is_zero()
    }
}

impl FromStr for Wait {
    type Err = NoWait;

    fn from_str(text: &str) -> Result<Self, NoWait> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or(NoWait)?;
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| NoWait)?;
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(NoWait)?;
        number.checked_mul(*scale).map(|ms| Self(Duration::from_millis(ms))).ok_or(NoWait)
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if ms == 0 {
            return f.write_str("0s");
        }
        let (unit, scale) = UNITS.iter().find(|(_, scale)| ms.is_multiple_of(*scale)).expect("1 divides it");
        write!(f, "{}{unit}", ms / scale)
    }
}

impl Serialize for Wait {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Wait {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn people_write_times_in_several_units() {
        for (text, ms) in [
            ("0s", 0),
            ("7ms", 7),
            ("90s", 90_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("30d", 2_592_000_000),
        ] {
            assert_eq!(text.parse::<Wait>(), Ok(Wait(Duration::from_millis(ms))), "{text}");
        }
        for text in
            ["", "5", "m", "5 m", "-5m", "5w", "1.5h", "99999999999999999999d", "18446744073709551615d"]
        {
            assert_eq!(text.parse::<Wait>(), Err(NoWait), "{text}");
        }
        assert_eq!(Wait::seconds(7_200).to_string(), "2h");
        assert_eq!(Wait::seconds(61).to_string(), "61s");
    }

    proptest! {
        #[test]
        fn a_time_that_is_written_is_read_again(ms in 0_u64..u64::MAX / 2) {
            let wait = Wait(Duration::from_millis(ms));
            prop_assert_eq!(wait.to_string().parse(), Ok(wait));
        }
    }
}
