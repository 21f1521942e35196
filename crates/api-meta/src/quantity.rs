//! Resource quantities: `100m`, `1.5Gi`, `2e3`. Source: `k8s.io/apimachinery/pkg/api/resource`.

use std::fmt;

/// Unit family a quantity was written in, which its canonical form keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `Ki`, `Mi`, ...
    BinarySi,
    /// `m`, `k`, `M`, ...
    DecimalSi,
    /// `e3`, `E3`.
    DecimalExponent,
}

/// A fixed-point number with nano resolution. Finer input is rounded up, as upstream does.
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

const NANO: i128 = 1_000_000_000;
/// Longest text that is read.
const TEXT_BYTES_MAX: usize = 128;

const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];
const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];

/// Why a text is no quantity, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

impl Quantity {
    pub const ZERO: Self = Self { nanos: 0, format: Format::DecimalSi };

    pub fn parse(text: &str) -> Result<Self, ParseError> {
        if text.is_empty() || text.len() > TEXT_BYTES_MAX || !text.is_ascii() {
            return Err(ParseError::Format);
        }
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let digits_end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(digits_end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(ParseError::Format);
        }
        let scale = Scale::parse(suffix)?;
        let magnitude = scale.apply(whole, fraction);
        let nanos = if text.starts_with('-') { -magnitude } else { magnitude };
        Ok(Self { nanos, format: scale.format() })
    }

    #[must_use]
    pub fn from_units(units: i64, format: Format) -> Self {
        Self { nanos: i128::from(units) * NANO, format }
    }

    #[must_use]
    pub fn from_millis(millis: i64) -> Self {
        Self { nanos: i128::from(millis) * 1_000_000, format: Format::DecimalSi }
    }

    /// Whole units, rounded up, saturating.
    #[must_use]
    pub fn value(&self) -> i64 {
        saturate(div_up(self.nanos, NANO))
    }

    /// Thousandths, rounded up, saturating.
    #[must_use]
    pub fn milli_value(&self) -> i64 {
        saturate(div_up(self.nanos, 1_000_000))
    }

    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    #[must_use]
    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// The sum, in the format of `self` (of `other` when `self` is zero).
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: self.nanos.saturating_add(other.nanos), format }
    }

    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        self.plus(&Self { nanos: -other.nanos, format: other.format })
    }
}

fn div_up(value: i128, by: i128) -> i128 {
    let quotient = value / by;
    if value % by > 0 { quotient + 1 } else { quotient }
}

fn saturate(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

enum Scale {
    Binary(u32),
    Decimal(i32),
    Exponent(i32),
}

impl Scale {
    fn parse(suffix: &str) -> Result<Self, ParseError> {
        if let Some(&(_, bits)) = BINARY.iter().find(|(name, _)| *name == suffix) {
            return Ok(Self::Binary(bits));
        }
        if let Some(&(_, power)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
            return Ok(Self::Decimal(power));
        }
        let rest = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
        let rest = rest.strip_prefix(['+', '-']).unwrap_or(rest);
        if rest.bytes().any(|byte| !byte.is_ascii_digit()) {
            return Err(ParseError::Format);
        }
        let exponent = suffix.strip_prefix(['e', 'E']).ok_or(ParseError::Suffix)?;
        let power: i32 = exponent.parse().map_err(|_| ParseError::Suffix)?;
        if power.abs() > 100 { Err(ParseError::Suffix) } else { Ok(Self::Exponent(power)) }
    }

    fn format(&self) -> Format {
        match self {
            Self::Binary(_) => Format::BinarySi,
            Self::Decimal(_) => Format::DecimalSi,
            Self::Exponent(_) => Format::DecimalExponent,
        }
    }

    /// Nanos, rounded up and capped at 2^63-1 units.
    fn apply(&self, whole: &str, fraction: &str) -> i128 {
        const CAP: i128 = i64::MAX as i128 * NANO;
        let digits: String = format!("{whole}{fraction}");
        let digits = digits.trim_start_matches('0');
        if digits.is_empty() {
            return 0;
        }
        let fraction_len = i32::try_from(fraction.len()).unwrap_or(i32::MAX);
        let (multiplier, power) = match *self {
            Self::Binary(bits) => (1_i128 << bits, 9 - fraction_len),
            Self::Decimal(power) | Self::Exponent(power) => (1, 9 + power - fraction_len),
        };
        let kept: String = digits.chars().take(36).collect();
        let dropped = i32::try_from(digits.len() - kept.len()).unwrap_or(i32::MAX);
        let power = power.saturating_add(dropped);
        let Some(value) = kept.parse::<i128>().ok().and_then(|value| value.checked_mul(multiplier)) else { return CAP };
        let scaled = if power >= 0 {
            10_i128.checked_pow(power.unsigned_abs()).and_then(|factor| value.checked_mul(factor))
        } else {
            Some(10_i128.checked_pow(power.unsigned_abs()).map_or(1, |divisor| div_up(value, divisor)))
        };
        scaled.map_or(CAP, |nanos| nanos.min(CAP))
    }
}

/// The canonical form: the largest unit that keeps the number whole.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        match self.format {
            Format::BinarySi if self.nanos % NANO == 0 && (self.nanos / NANO).abs() >= 1024 => self.write_binary(f),
            Format::DecimalExponent => self.write_decimal(f, true),
            Format::BinarySi | Format::DecimalSi => self.write_decimal(f, false),
        }
    }
}

impl Quantity {
    fn write_binary(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut units = self.nanos / NANO;
        let mut suffix = "";
        for (name, _) in BINARY {
            if units % 1024 != 0 {
                break;
            }
            units /= 1024;
            suffix = name;
        }
        write!(f, "{units}{suffix}")
    }

    fn write_decimal(&self, f: &mut fmt::Formatter<'_>, exponent: bool) -> fmt::Result {
        let mut value = self.nanos;
        let mut power = -9;
        while value % 1000 == 0 && power < 18 {
            value /= 1000;
            power += 3;
        }
        if exponent {
            return if power == 0 { write!(f, "{value}") } else { write!(f, "{value}e{power}") };
        }
        let suffix = DECIMAL.iter().find(|(_, known)| *known == power).map_or("", |(name, _)| *name);
        write!(f, "{value}{suffix}")
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}
impl Eq for Quantity {}
impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_forms() {
        for (text, canonical) in [
            ("0", "0"),
            ("100m", "100m"),
            ("0.1", "100m"),
            ("1000m", "1"),
            ("1024Ki", "1Mi"),
            ("1.5Gi", "1536Mi"),
            ("1500Mi", "1500Mi"),
            ("1e3", "1e3"),
            ("1000", "1k"),
            ("128974848", "128974848"),
            ("129e6", "129e6"),
            ("0.5Ki", "512"),
            ("-1.2", "-1200m"),
            ("1.0000000001", "1000000001n"),
            ("9E", "9E"),
            ("12E", "9223372036854775807"),
            ("+5", "5"),
            ("1Ei", "1Ei"),
            (".5", "500m"),
            ("5.", "5"),
        ] {
            assert_eq!(Quantity::parse(text).map(|q| q.to_string()).as_deref(), Ok(canonical), "{text}");
        }
    }

    #[test]
    fn rejects_what_is_no_quantity() {
        for text in ["", "-", ".", "1.2.3", "Ki", "1KiB", "1ee3", "1 ", "١", "1e999"] {
            assert!(Quantity::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn values_round_up() {
        let q = Quantity::parse("1500m").expect("quantity");
        assert_eq!((q.value(), q.milli_value()), (2, 1500));
        assert_eq!(Quantity::parse("1n").expect("quantity").milli_value(), 1);
        assert_eq!(Quantity::parse("9999999999999999999999").expect("quantity").value(), i64::MAX);
    }
}
