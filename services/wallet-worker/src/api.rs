//! What the wallet-worker says to a gatewayd over HTTPS, and what it makes of the answers.

use gatewayzen_core::seal::SecretBytes;
use gatewayzen_core::{StepError, crash};
use gatewayzen_worker::https::{HttpsError, PinnedClient, Request, Response};
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

const COLD_WALLET: &str = "/v1/config/wallets/cold";
const DOMAIN: &str = "/v1/config/domain";
/// How much of a foreign value a sentence repeats, in characters.
const SHOWN: usize = 80;

/// The cold wallet as a gatewayd tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColdWallet {
    /// There is none.
    Unset,
    /// There is one. The text is the server's own: anything can stand there.
    Set(String),
}

/// One gatewayd's HTTPS API.
#[derive(Debug)]
pub struct Api {
    client: PinnedClient,
    user: String,
    key: SecretBytes,
}

impl Api {
    /// The API behind `client`, with gatewayd's key as the password. gatewayd wants a user too, any one.
    #[must_use]
    pub fn new(client: PinnedClient, user: &str, key: SecretBytes) -> Self {
        Self {
            client,
            user: user.to_owned(),
            key,
        }
    }

    /// Asks for the cold wallet: the only thing that tells whether one is set.
    ///
    /// # Errors
    /// There is no answer, or not the one that a gatewayd gives.
    pub async fn cold_wallet(&self) -> Result<ColdWallet, StepError> {
        let what = "GET /v1/config/wallets/cold";
        let answer = self.send(Method::GET, COLD_WALLET, None).await.map_err(failed)?;
        let object = json_object(what, &answer)?;
        // Where there is none, the address is an empty object; null and "" are as unset to gatewayd itself.
        match object.get("COLD_WALLET").and_then(|wallet| wallet.get("address")) {
            Some(Value::String(address)) if !address.is_empty() => Ok(ColdWallet::Set(address.clone())),
            Some(Value::Object(empty)) if empty.is_empty() => Ok(ColdWallet::Unset),
            Some(Value::Null | Value::Bool(false) | Value::String(_)) => Ok(ColdWallet::Unset),
            Some(strange) => Ok(ColdWallet::Set(strange.to_string())),
            None => Err(unexpected(what, &answer, "without COLD_WALLET.address")),
        }
    }

    /// Tells the cold wallet's address. What comes back is only a hint, returned for the log: a gatewayd
    /// answers 500 or closes the connection where it means "already set".
    ///
    /// # Errors
    /// The request cannot have had an effect: nobody was reached, or the key was refused.
    pub async fn set_cold_wallet(&self, address: &str) -> Result<String, StepError> {
        match self
            .send(Method::POST, COLD_WALLET, Some(json!({ "address": address })))
            .await
        {
            Ok(answer) if answer.status == StatusCode::UNAUTHORIZED => {
                Err(refused("POST /v1/config/wallets/cold"))
            }
            Ok(answer) => Ok(format!("it answered {}", answer.status)),
            Err(
                error @ (HttpsError::Closed { .. }
                | HttpsError::AnswerTimeout { .. }
                | HttpsError::TooLarge { .. }
                | HttpsError::NotHttp { .. }),
            ) => Ok(error.to_string()),
            Err(error) => Err(failed(error)),
        }
    }

    /// Makes gatewayd write its configuration to its file, in which a cold wallet that was set over HTTPS does
    /// not stand until then. Its domain is read and told back unchanged, which saves and changes nothing.
    ///
    /// # Errors
    /// gatewayd did not confirm that it saved.
    pub async fn save(&self) -> Result<(), StepError> {
        let (get, post) = ("GET /v1/config/domain", "POST /v1/config/domain");
        let answer = self.send(Method::GET, DOMAIN, None).await.map_err(failed)?;
        // Where there is no domain, none is told back, and gatewayd keeps none.
        let body = match json_object(get, &answer)?.remove("DOMAIN") {
            Some(domain) => json!({ "domain": domain }),
            None => json!({}),
        };
        let answer = self
            .send(Method::POST, DOMAIN, Some(body))
            .await
            .map_err(failed)?;
        json_object(post, &answer).map(drop)
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Result<Response, HttpsError> {
        let request = Request {
            method,
            path,
            user: &self.user,
            password: &self.key,
            body: body.as_ref(),
        };
        let effect = format!("{} {path}", request.method);
        crash::around(&effect, self.client.request(request)).await
    }
}

/// A text of the server's, cut and with control characters made visible, as part of a sentence.
#[must_use]
pub fn shown(text: &str) -> String {
    let cut: String = text.chars().take(SHOWN).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("{}{more}", cut.escape_debug())
}

fn failed(error: HttpsError) -> StepError {
    let sentence = error.to_string();
    match error {
        HttpsError::NotPinned { .. } => StepError::permanent(
            sentence,
            "See which host answers at that address. If you replaced its certificate, put the pair that GatewayZen made back in \
             its place and restart gatewayd; or read the new fingerprint on the host and say `gatewayzen identity reset NAME \
             --fingerprint … --reason …`; then retry. Otherwise somebody stands between: see who, and never accept the other one.",
        ),
        HttpsError::Unusable { .. } => StepError::permanent(
            sentence,
            "Terminate the server and build it anew, and see which openssl its machine image has.",
        ),
        HttpsError::NotOwner { .. } => StepError::permanent(
            sentence,
            "Somebody may be posing as this host: see who answers at that address before you retry.",
        ),
        _ => StepError::transient(
            sentence,
            "See that gatewayd's web server runs on its host (a reboot ends it: start it there again) and that its port is open to \
             the wallet-worker.",
        ),
    }
}

fn refused(what: &str) -> StepError {
    StepError::permanent(
        format!(
            "gatewayd refused the API key that was read from its host (401 to {what}): its key was changed since"
        ),
        "Set the former key again on the host and restart gatewayd, or terminate the server and build it anew; then retry.",
    )
}

fn unexpected(what: &str, answer: &Response, why: &str) -> StepError {
    let Response {
        status,
        content_type,
        body,
    } = answer;
    let kind = if content_type.is_empty() {
        "no content type".to_owned()
    } else {
        shown(content_type)
    };
    StepError::transient(
        format!(
            "gatewayd answered {what} with {status}, {kind}, {} bytes, {why}",
            body.len()
        ),
        "See gatewayd's log on its host: it may be starting, or its web server may be another program.",
    )
}

fn json_object(what: &str, answer: &Response) -> Result<Map<String, Value>, StepError> {
    if answer.status == StatusCode::UNAUTHORIZED {
        return Err(refused(what));
    }
    if !answer.status.is_success() {
        return Err(unexpected(what, answer, "where 200 was expected"));
    }
    match serde_json::from_slice(&answer.body) {
        Ok(Value::Object(object)) => Ok(object),
        _ => Err(unexpected(what, answer, "where a JSON object was expected")),
    }
}
