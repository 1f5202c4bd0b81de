//! Charges per epoch, exact with the remainder carried.

use fincrypt_protocol::amount::{Msat, Price};

/// Byte-seconds in a GiB-month: 2^30 bytes for 30 days.
const GIB_MONTH: u128 = (1 << 30) * 30 * 24 * 3600;

/// More money than there can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the charge does not fit 2^64 msat")]
pub struct AccrualOverflow;

/// What a contract has accrued: whole millisatoshi and the remainder below one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Accrual {
    total: Msat,
    /// In msat-byte-seconds per GiB-month; below [`GIB_MONTH`].
    remainder: u128,
}

impl Accrual {
    /// Charges `price` for holding `bytes` over `seconds`: the whole millisatoshi that are due
    /// now. The rest below one is carried to the next charge, so over any split of time and bytes
    /// the sum differs by less than one from the undivided charge.
    ///
    /// # Errors
    /// [`AccrualOverflow`] if the sum does not fit; nothing is charged then.
    pub fn charge(&mut self, price: Price, bytes: u64, seconds: u64) -> Result<Msat, AccrualOverflow> {
        let byte_seconds = u128::from(bytes) * u128::from(seconds);
        let due = byte_seconds.checked_mul(price.get().into()).ok_or(AccrualOverflow)?;
        let due = due.checked_add(self.remainder).ok_or(AccrualOverflow)?;
        let charged = Msat::new(u64::try_from(due / GIB_MONTH).map_err(|_| AccrualOverflow)?);
        let total = self.total.checked_add(charged).ok_or(AccrualOverflow)?;
        *self = Self { total, remainder: due % GIB_MONTH };
        Ok(charged)
    }

    /// Everything charged so far.
    #[must_use]
    pub fn total(&self) -> Msat {
        self.total
    }
}

/// What `price` comes to for so many byte-epochs of `epoch_seconds` each, rounded down: the closed
/// form, which any split of them adds up to.
///
/// # Errors
/// [`AccrualOverflow`] if the sum does not fit.
pub fn earned(price: Price, byte_epochs: u64, epoch_seconds: u32) -> Result<Msat, AccrualOverflow> {
    // The first product is below 2^96.
    let byte_seconds = u128::from(byte_epochs) * u128::from(epoch_seconds);
    let due = byte_seconds.checked_mul(price.get().into()).ok_or(AccrualOverflow)? / GIB_MONTH;
    u64::try_from(due).map(Msat::new).map_err(|_| AccrualOverflow)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_split_of_time_and_bytes_charges_the_same(
            price in 0u64..1_000_000, parts in proptest::collection::vec((1u64..1 << 44, 1u64..100_000), 1..50),
        ) {
            let mut accrual = Accrual::default();
            let mut closed: u128 = 0;
            for (bytes, seconds) in &parts {
                accrual.charge(Price::new(price), *bytes, *seconds)?;
                closed += u128::from(*bytes) * u128::from(*seconds) * u128::from(price);
            }
            prop_assert_eq!(u128::from(accrual.total().get()), closed / GIB_MONTH);
        }

        #[test]
        fn epochs_charged_one_by_one_come_to_the_closed_form(
            price in 0u64..1_000_000, seconds in 1u32..100_000, epochs in proptest::collection::vec(0u64..1 << 44, 1..50),
        ) {
            let mut accrual = Accrual::default();
            for bytes in &epochs {
                accrual.charge(Price::new(price), *bytes, seconds.into())?;
            }
            prop_assert_eq!(earned(Price::new(price), epochs.iter().sum(), seconds)?, accrual.total());
        }
    }

    #[test]
    fn an_impossible_charge_changes_nothing() {
        let mut accrual = Accrual::default();
        accrual.charge(Price::new(5), 1 << 30, 3600).expect("fits");
        let before = accrual;
        assert_eq!(accrual.charge(Price::new(u64::MAX), u64::MAX, u64::MAX), Err(AccrualOverflow));
        assert_eq!(accrual, before);
    }
}
