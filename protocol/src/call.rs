//! Requests with the type of what answers each, and responses as they travel.
//!
//! ```text
//! response = { "ok": body } / { "refused": refusal }
//! ```

use std::fmt;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use crate::cbor::{self, CborError};
use crate::frame::Header;
use crate::limits::{MAX_HEADER, MAX_PAYLOAD};
use crate::refusal::Refusal;

/// A request, and what answers it.
pub trait Call: Into<Self::Request> + Clone + fmt::Debug + Send + 'static {
    /// All requests of its protocol.
    type Request: Header;
    /// The body of its response.
    type Response: Serialize + DeserializeOwned + fmt::Debug + Send + 'static;
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Body<T> {
    Ok(T),
    Refused(Refusal),
}

/// A refusal of a later version has no meaning here, but is one.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Refused {
    #[serde(rename = "refused")]
    Other(#[allow(dead_code)] IgnoredAny),
}

/// An encoded response. Only who knows the request can read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response(Vec<u8>);

impl Response {
    /// The response to a request that was carried out.
    ///
    /// # Errors
    /// [`CborError`] if the body cannot be encoded.
    pub fn ok<C: Call>(body: &C::Response) -> Result<Self, CborError> {
        cbor::encode(&Body::Ok(body)).map(Self)
    }

    /// The response to a request that was refused.
    ///
    /// # Errors
    /// Never: every refusal can be encoded.
    pub fn refused(refusal: Refusal) -> Result<Self, CborError> {
        cbor::encode(&Body::<()>::Refused(refusal)).map(Self)
    }

    /// Reads the response to a `C`: its body, or the refusal. An unknown refusal reads as
    /// [`Refusal::Unsupported`].
    ///
    /// # Errors
    /// [`CborError`] if it is the response to no `C`.
    pub fn read<C: Call>(&self) -> Result<Result<C::Response, Refusal>, CborError> {
        self.read_as()
    }

    /// Reads whether the request was carried out, whatever the body says.
    ///
    /// # Errors
    /// [`CborError`] if it is no response.
    pub fn outcome(&self) -> Result<Result<(), Refusal>, CborError> {
        Ok(self.read_as::<IgnoredAny>()?.map(|_| ()))
    }

    fn read_as<T: DeserializeOwned>(&self) -> Result<Result<T, Refusal>, CborError> {
        match cbor::decode::<Body<T>>(&self.0, MAX_HEADER as usize) {
            Ok(Body::Ok(body)) => Ok(Ok(body)),
            Ok(Body::Refused(refusal)) => Ok(Err(refusal)),
            Err(error) => match cbor::decode::<Refused>(&self.0, MAX_HEADER as usize) {
                Ok(_) => Ok(Err(Refusal::Unsupported)),
                Err(_) => Err(error),
            },
        }
    }
}

impl Header for Response {
    fn to_cbor(&self) -> Result<Vec<u8>, CborError> {
        Ok(self.0.clone())
    }

    fn from_cbor(bytes: &[u8]) -> Result<Self, CborError> {
        Ok(Self(bytes.to_vec()))
    }

    /// What the request allows is less: [`Header::answer_limit`].
    fn payload_limit(&self) -> u32 {
        MAX_PAYLOAD
    }
}

/// Declares the requests of a protocol: one type each, the enum of them all, and what answers each. A payload
/// may follow only requests, and answers, that are marked with `[payload]`.
macro_rules! requests {
    (@most) => { 0 };
    (@most payload) => { crate::limits::MAX_PAYLOAD };
    ($(#[$doc:meta])* pub enum $all:ident {
        $($name:ident $([$asked:ident])? => $response:ty $([$answered:ident])?,)+
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $all {
            $(#[doc = concat!("See [`", stringify!($name), "`].")] $name(Box<$name>),)+
        }

        $(
            impl From<$name> for $all {
                fn from(request: $name) -> Self {
                    Self::$name(Box::new(request))
                }
            }

            impl crate::call::Call for $name {
                type Request = $all;
                type Response = $response;
            }
        )+

        impl crate::frame::Header for $all {
            fn to_cbor(&self) -> Result<Vec<u8>, crate::cbor::CborError> {
                crate::cbor::encode(self)
            }

            fn from_cbor(bytes: &[u8]) -> Result<Self, crate::cbor::CborError> {
                crate::cbor::decode(bytes, crate::limits::MAX_HEADER as usize)
            }

            fn payload_limit(&self) -> u32 {
                match self {
                    $(Self::$name(_) => crate::call::requests!(@most $($asked)?),)+
                }
            }

            fn answer_limit(&self) -> u32 {
                match self {
                    $(Self::$name(_) => crate::call::requests!(@most $($answered)?),)+
                }
            }
        }
    };
}
pub(crate) use requests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mediate::Hello;
    use crate::shard;

    #[test]
    fn a_refusal_of_a_later_version_is_one_all_the_same() {
        let later = Response(cbor::encode(&text_map("refused", "too_purple")).expect("encodes"));
        assert!(matches!(later.read::<Hello>(), Ok(Err(Refusal::Unsupported))));
        let known = Response::refused(Refusal::Busy).expect("encodes");
        assert!(matches!(known.read::<Hello>(), Ok(Err(Refusal::Busy))));
    }

    fn text_map(key: &str, value: &str) -> std::collections::BTreeMap<String, String> {
        [(key.to_owned(), value.to_owned())].into()
    }

    #[test]
    fn the_response_to_another_request_is_not_read() {
        let pending = shard::ReleasesUndone { pending: true };
        let response = Response::ok::<shard::UndoReleases>(&pending).expect("encodes");
        assert!(matches!(response.read::<shard::UndoReleases>(), Ok(Ok(body)) if body == pending));
        assert!(response.read::<Hello>().is_err());
    }
}
