//! Medians, ranges and the exponent of a growth.
//!
//! Invariant: pure; a sample without values is refused where it is made.

use crate::error::{Error, Result};

/// Repeated measurements of one thing, in the order of their size.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample(Vec<f64>);

impl Sample {
    /// At least one value; none of them may be NaN or infinite.
    pub(super) fn new(what: &str, mut values: Vec<f64>) -> Result<Self> {
        if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
            return Err(Error::Other(format!("{what}: {values:?} is no sample")));
        }
        values.sort_by(f64::total_cmp);
        Ok(Self(values))
    }

    /// The middle value, or the mean of the two in the middle.
    pub(super) fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        if self.0.len().is_multiple_of(2) {
            f64::midpoint(self.0[middle - 1], self.0[middle])
        } else {
            self.0[middle]
        }
    }

    /// The smallest value.
    pub(super) fn min(&self) -> f64 {
        self.0[0]
    }

    /// The largest value.
    pub(super) fn max(&self) -> f64 {
        self.0[self.0.len() - 1]
    }

    /// How many values.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }
}

/// The exponent `b` of `y = a * x^b`, by least squares over the logarithms. All numbers must be above zero, and at least
/// two different `x` there.
pub(super) fn exponent(points: &[(f64, f64)]) -> Result<f64> {
    let bad = || Error::Other(format!("no exponent of growth fits {points:?}"));
    if points
        .iter()
        .any(|(x, y)| !(x.is_finite() && y.is_finite() && *x > 0.0 && *y > 0.0))
    {
        return Err(bad());
    }
    let logs: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    let count = f64::from(u32::try_from(logs.len()).map_err(|_| bad())?);
    let mean = |pick: fn(&(f64, f64)) -> f64| logs.iter().map(pick).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = logs.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    if logs.len() < 2 || spread < 1e-12 {
        return Err(bad());
    }
    Ok(logs.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>() / spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        for (values, median) in [
            (vec![3.0], 3.0),
            (vec![9.0, 1.0], 5.0),
            (vec![5.0, 100.0, 1.0], 5.0),
            (vec![4.0, 1.0, 2.0, 3.0], 2.5),
        ] {
            let sample = Sample::new("test", values.clone()).unwrap();
            assert!((sample.median() - median).abs() < 1e-12, "{values:?}");
            assert_eq!(sample.count(), values.len());
        }
        let sample = Sample::new("test", vec![2.0, 7.0, 5.0]).unwrap();
        assert_eq!(
            (sample.min().to_bits(), sample.max().to_bits()),
            (2.0_f64.to_bits(), 7.0_f64.to_bits())
        );
    }

    #[test]
    fn what_is_no_sample_is_refused() {
        assert!(Sample::new("none", Vec::new()).is_err());
        assert!(Sample::new("broken", vec![1.0, f64::NAN]).is_err());
    }

    #[test]
    fn exponents_are_found() {
        for wanted in [0.5, 1.0, 1.7] {
            let points: Vec<(f64, f64)> = [10_000.0, 100_000.0, 1_000_000.0_f64]
                .iter()
                .map(|x| (*x, 3.0 * x.powf(wanted)))
                .collect();
            assert!((exponent(&points).unwrap() - wanted).abs() < 1e-9);
        }
        // A constant part makes a growth look slower than it is, and squares make it look faster.
        let bent = [(1.0, 2.0), (10.0, 11.0), (100.0, 101.0)];
        assert!(exponent(&bent).unwrap() < 0.9);
    }

    #[test]
    fn no_exponent_is_made_up() {
        for points in [&[][..], &[(1.0, 1.0)], &[(2.0, 1.0), (2.0, 3.0)], &[(1.0, 0.0), (2.0, 1.0)]] {
            assert!(exponent(points).is_err(), "{points:?}");
        }
    }
}
