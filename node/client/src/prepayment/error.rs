//! Why a mediator does not do something about money.

/// What the mediator refuses about the prepayment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PrepaymentError {
    /// It does not cover what is stored.
    #[error("the prepayment is used up; what is stored is kept meanwhile")]
    UsedUp,
    /// The mediator has no Bitcoin wallet, or it is not ready.
    #[error("the mediator cannot take or pay money: it has no wallet, or that is not ready")]
    NoWallet,
    /// Money cannot go there.
    #[error("no money can be sent there")]
    Destination,
    /// There is less than was asked for, or too little for a payment.
    #[error("there is less than that, or too little to be worth a payment")]
    TooLittle,
    /// The invoice was used before.
    #[error("the invoice was used before, and counts once")]
    InvoiceUsed,
}
