//! The two notations of the EC2 Query API: a form for the question, XML for the answer.

use std::collections::BTreeMap;

use super::network::{self, Answer};

/// The parameters of a call.
pub(super) struct Form(BTreeMap<String, String>);

impl Form {
    /// Reads `application/x-www-form-urlencoded`.
    pub(super) fn parse(body: &[u8]) -> Self {
        let body = String::from_utf8_lossy(body);
        let pairs = body.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(key), decode(value))
                })
                .collect(),
        )
    }

    /// The parameters of a launch by somebody else than GatewayZen.
    pub(super) fn of_launch(image: &str, tags: &[(&str, &str)]) -> Self {
        let mut form = BTreeMap::new();
        let mut put = |key: String, value: &str| form.insert(key, value.to_owned());
        put("ImageId".into(), image);
        put("MinCount".into(), "1");
        put("MaxCount".into(), "1");
        put("TagSpecification.1.ResourceType".into(), "instance");
        for (index, (key, value)) in (1..).zip(tags) {
            put(format!("TagSpecification.1.Tag.{index}.Key"), key);
            put(format!("TagSpecification.1.Tag.{index}.Value"), value);
        }
        Self(form)
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// The values of `key.1`, `key.2` and so on.
    pub(super) fn list(&self, key: &str) -> Vec<String> {
        (1..)
            .map_while(|index| self.get(&format!("{key}.{index}")).map(str::to_owned))
            .collect()
    }

    /// The prefixes `key.1`, `key.2` and so on that have a member of this name.
    pub(super) fn groups(&self, key: &str, member: &str) -> Vec<String> {
        (1..)
            .map(|index| format!("{key}.{index}"))
            .take_while(|group| self.0.contains_key(&format!("{group}.{member}")))
            .collect()
    }

    /// Everything but the client token: what has to be the same when a token is used again.
    pub(super) fn without_token(&self) -> BTreeMap<String, String> {
        let mut rest = self.0.clone();
        rest.remove("ClientToken");
        rest
    }
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let escaped = (bytes[index] == b'%')
            .then(|| bytes.get(index + 1..index + 3))
            .flatten()
            .and_then(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        index += if escaped.is_some() { 3 } else { 1 };
        out.push(escaped.unwrap_or_else(|| {
            if bytes[index - 1] == b'+' {
                b' '
            } else {
                bytes[index - 1]
            }
        }));
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A refusal, in EC2's words.
#[derive(Debug)]
pub(super) struct Refusal {
    code: String,
    message: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl Refusal {
    pub(super) fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
        }
    }

    pub(super) fn answer(&self) -> Answer {
        let status = match self.code.as_str() {
            "AuthFailure" => 401,
            "UnauthorizedOperation" => 403,
            "DryRunOperation" => 412,
            "RequestLimitExceeded" | "Unavailable" => 503,
            "InternalError" | "InsufficientInstanceCapacity" => 500,
            _ => 400,
        };
        let error = element("Code", &self.code) + &element("Message", &self.message);
        let body = format!(
            "<Response><Errors><Error>{error}</Error></Errors><RequestID>simulated</RequestID></Response>"
        );
        network::reply(status, "text/xml;charset=UTF-8", body)
    }
}

/// A successful answer to an action.
pub(super) fn answer(action: &str, inside: &str) -> Answer {
    let body = format!(
        r#"<?xml version="1.0" encoding="UTF-8"?><{action}Response xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>simulated</requestId>{inside}</{action}Response>"#
    );
    network::reply(200, "text/xml;charset=UTF-8", body)
}

/// An element with a text.
pub(super) fn element(name: &str, text: &str) -> String {
    format!("<{name}>{}</{name}>", escape(text))
}

/// An element with items, each already XML.
pub(super) fn items(name: &str, items: impl IntoIterator<Item = String>) -> String {
    let inside: String = items
        .into_iter()
        .map(|item| format!("<item>{item}</item>"))
        .collect();
    format!("<{name}>{inside}</{name}>")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
