//! How many payments may be under way.

/// Payments under way at once: a channel refuses more than 50 parts of payments, and one may take
/// several.
pub const MAX_IN_FLIGHT: usize = 30;
/// Of these, payments to offers: of more that ask for an invoice at once some are never answered, and stand
/// still for a minute (`cargo bench -p fincrypt-examples --bench lightning`).
pub const MAX_OFFERS_IN_FLIGHT: usize = 10;
