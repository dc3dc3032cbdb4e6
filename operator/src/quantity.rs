//! Quantities as Kubernetes writes them (`500m`, `2Gi`, `1e3`), as far as comparing and doubling them needs it.

use std::cmp::Ordering;
use std::str::FromStr;

/// A number of thousandths; larger than any resource it saturates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Quantity(i128);

/// The text is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a quantity")]
pub(crate) struct NoQuantity;

impl Quantity {
    /// Whether it is above zero.
    pub(crate) fn is_positive(self) -> bool {
        self.0 > 0
    }
}

impl FromStr for Quantity {
    type Err = NoQuantity;

    fn from_str(text: &str) -> Result<Self, NoQuantity> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || whole.len() > 18 || fraction.len() > 9 {
            return Err(NoQuantity);
        }
        // In billionths first, so that a fraction of nine digits is exact.
        let digits = |text: &str| {
            if text.is_empty() {
                Ok(0)
            } else {
                text.parse::<i128>().map_err(|_| NoQuantity)
            }
        };
        let billionths = digits(whole)? * 1_000_000_000 + digits(&format!("{fraction:0<9}"))?;
        let (factor, divisor): (i128, i128) = match unit {
            "" => (1, 1),
            "n" => (1, 1_000_000_000),
            "u" => (1, 1_000_000),
            "m" => (1, 1000),
            "k" => (1000, 1),
            "M" => (1_000_000, 1),
            "G" => (1_000_000_000, 1),
            "T" => (1_000_000_000_000, 1),
            "P" => (1_000_000_000_000_000, 1),
            "E" => (1_000_000_000_000_000_000, 1),
            "Ki" => (1 << 10, 1),
            "Mi" => (1 << 20, 1),
            "Gi" => (1 << 30, 1),
            "Ti" => (1 << 40, 1),
            "Pi" => (1 << 50, 1),
            "Ei" => (1 << 60, 1),
            exponent => {
                let power: i32 = exponent
                    .strip_prefix(['e', 'E'])
                    .ok_or(NoQuantity)?
                    .parse()
                    .map_err(|_| NoQuantity)?;
                let ten = 10_i128
                    .checked_pow(power.unsigned_abs())
                    .filter(|_| power.abs() <= 18)
                    .ok_or(NoQuantity)?;
                if power < 0 { (1, ten) } else { (ten, 1) }
            }
        };
        let value = billionths.saturating_mul(factor);
        // Rounded up, as Kubernetes does: the smallest quantity is not zero.
        let thousandth = 1_000_000 * divisor;
        Ok(Self(value / thousandth + i128::from(value % thousandth != 0)))
    }
}

/// The larger of two quantities, as written; what cannot be read counts as the smaller.
pub(crate) fn larger<'a>(a: &'a str, b: &'a str) -> &'a str {
    match a.parse::<Quantity>().ok().cmp(&b.parse::<Quantity>().ok()) {
        Ordering::Less => b,
        Ordering::Equal | Ordering::Greater => a,
    }
}

/// Twice a number of bytes, at most `most`, as Kubernetes writes it; `None` when it is `most` already, or no quantity.
pub(crate) fn doubled(bytes: &str, most: &str) -> Option<String> {
    let (now, bound): (Quantity, Quantity) = (bytes.parse().ok()?, most.parse().ok()?);
    if now >= bound {
        return None;
    }
    let twice = Quantity(now.0.saturating_mul(2));
    if twice >= bound {
        return Some(most.to_owned());
    }
    let bytes = twice.0 / 1000;
    let unit = [("Ti", 40), ("Gi", 30), ("Mi", 20)]
        .into_iter()
        .find(|(_, bits)| bytes > 0 && bytes % (1_i128 << bits) == 0);
    Some(unit.map_or_else(|| bytes.to_string(), |(unit, bits)| format!("{}{unit}", bytes >> bits)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubling_ends_at_its_bound_and_is_written_as_people_do() {
        for (bytes, next) in [
            ("256Mi", Some("512Mi")),
            ("512Mi", Some("1Gi")),
            ("2Gi", Some("4Gi")),
            ("4Gi", Some("8Gi")),
            ("6Gi", Some("8Gi")),
            ("1.5Gi", Some("3Gi")),
            ("1G", Some("2000000000")),
            ("1000", Some("2000")),
            ("8Gi", None),
            ("16Gi", None),
            ("8192Mi", None),
            ("", None),
            ("much", None),
        ] {
            assert_eq!(doubled(bytes, "8Gi").as_deref(), next, "{bytes}");
        }
        assert_eq!(doubled("1Gi", "much"), None);
    }

    #[test]
    fn quantities_compare_across_units() {
        for (small, large) in [
            ("100m", "1"),
            ("1G", "1Gi"),
            ("999Ki", "1Mi"),
            ("0.5", "501m"),
            ("1e3", "2k"),
            ("1n", "2m"),
            ("8Ei", "9Ei"),
        ] {
            assert!(
                small.parse::<Quantity>().unwrap() < large.parse::<Quantity>().unwrap(),
                "{small} {large}"
            );
            assert_eq!(larger(small, large), large);
            assert_eq!(larger(large, small), large);
        }
        assert_eq!("1024Mi".parse::<Quantity>(), "1Gi".parse());
        assert!(!"0".parse::<Quantity>().unwrap().is_positive());
        for text in ["", "Gi", "-1", "1.2.3", "1x", "1e99", "99999999999999999999", "one"] {
            assert_eq!(text.parse::<Quantity>(), Err(NoQuantity), "{text}");
        }
    }
}
