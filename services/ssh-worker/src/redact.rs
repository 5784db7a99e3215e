//! Takes out of a host's text what may be a secret, before an operator or a log sees it. It rather hides too much.

/// What stands in place of a secret.
const HIDDEN: &str = "[hidden]";
/// From this many letters and digits in a row on, a word may be a key.
const LONG: usize = 24;
/// From this many characters on, a run that looks random may be one, with the marks of base64 in it.
const RANDOM: usize = 16;

/// Names that need nothing behind them: the next word is the secret.
const BARE: [&str; 4] = ["password", "passwd", "passphrase", "secret"];
/// Names whose secret stands behind a colon or an equals sign; also as the end of a longer name: `DB_PASS=`, `"apiKey":`.
const ASSIGNED: [&str; 9] = [
    "pass",
    "pwd",
    "key",
    "keys",
    "token",
    "credentials",
    "seed",
    "mnemonic",
    "cookie",
];
/// Words of which the next one is a secret, as gatewayd (`info: KEY`) and HTTP write them.
const BEFORE: [&str; 3] = ["info", "basic", "bearer"];
/// Names that end as those of secrets do and name none: our own command, and what is public.
const HARMLESS: [&str; 3] = ["get_key", "publickey", "public_key"];

/// What comes next.
#[derive(Clone, Copy)]
enum Next {
    /// Anything.
    Text,
    /// The secret of a name that was just read, perhaps after a colon or so.
    Value,
    /// The rest of a secret in these quotes.
    Rest(char),
}

/// The words of a text, one blank between them, each that may be a secret replaced.
pub(crate) fn hide(text: &str) -> String {
    let mut shown: Vec<&str> = Vec::new();
    let mut next = Next::Text;
    for word in text.split_whitespace() {
        let (hides, then) = match next {
            Next::Text => {
                let (assigns, then) = names(word);
                (assigns || looks_secret(word), then)
            }
            Next::Value if is_separator(word) => (false, opened(word).map_or(Next::Value, Next::Rest)),
            Next::Value => match opened(word) {
                Some(quote) if !closes(&word[first_quote(word)..], quote) => (true, Next::Rest(quote)),
                _ => (true, names(word).1),
            },
            Next::Rest(quote) if word.contains(quote) => (true, names(word).1),
            Next::Rest(quote) => (true, Next::Rest(quote)),
        };
        match (hides, next) {
            (false, _) => shown.push(word),
            // The beginning of these quotes is hidden already.
            (true, Next::Rest(_)) if shown.last() == Some(&HIDDEN) => {}
            (true, _) => shown.push(HIDDEN),
        }
        next = then;
    }
    shown.join(" ")
}

/// Whether a word assigns a secret to a name in it, and what comes after the word.
fn names(word: &str) -> (bool, Next) {
    let mut hides = false;
    let mut then = Next::Text;
    let mut from = 0;
    while let Some((start, end)) = token(word, from) {
        from = end;
        let name = word[start..end].to_ascii_lowercase();
        let bare = BARE.iter().any(|known| name.contains(known));
        let before = BEFORE.contains(&name.as_str());
        let assigned =
            ASSIGNED.iter().any(|known| name.ends_with(known)) && !HARMLESS.contains(&name.as_str());
        if !(bare || before || assigned) {
            continue;
        }
        let rest = word[end..].trim_start_matches(['"', '\'', '`', '\\', ']', ')']);
        let value = rest.trim_start_matches([':', '=', '>']);
        if value.len() == rest.len() {
            // Nothing is assigned here. `"password"` alone is a name; in `password-file.txt` it is a part of one.
            if rest.trim_matches(|c: char| c.is_ascii_punctuation()).is_empty() && (bare || before) {
                then = Next::Value;
            }
            continue;
        }
        match opened(value) {
            _ if value.trim_matches(['"', '\'', '`', '\\', '{', '[']).is_empty() => {
                then = opened(value).map_or(Next::Value, Next::Rest);
                // `password=""` is an empty one.
                if value.len() > 1 && opened(value).is_some_and(|quote| closes(value, quote)) {
                    then = Next::Text;
                }
            }
            Some(quote) if !closes(value, quote) => {
                hides = true;
                then = Next::Rest(quote);
            }
            _ => {
                hides = true;
                then = Next::Text;
            }
        }
    }
    (hides, then)
}

/// The next run of letters, digits and what joins names, from a position on.
fn token(word: &str, from: usize) -> Option<(usize, usize)> {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let start = from + word[from..].find(part)?;
    let end = word[start..]
        .find(|c| !part(c))
        .map_or(word.len(), |at| start + at);
    Some((start, end))
}

fn is_separator(word: &str) -> bool {
    matches!(word, "is" | "was")
        || word
            .chars()
            .all(|c| matches!(c, ':' | '=' | '>' | '"' | '\'' | '`' | '\\'))
}

/// The quote with which a text begins.
fn opened(text: &str) -> Option<char> {
    text.trim_start_matches([':', '=', '>', '\\', '{', '[', '('])
        .chars()
        .next()
        .filter(|c| matches!(c, '"' | '\'' | '`'))
}

fn first_quote(text: &str) -> usize {
    text.find(['"', '\'', '`']).unwrap_or(0)
}

/// Whether the quote that opens a text is closed in it.
fn closes(text: &str, quote: char) -> bool {
    text.matches(quote).count() > 1
}

fn looks_secret(word: &str) -> bool {
    let long = word
        .split(|c: char| !c.is_ascii_alphanumeric())
        .any(|run| run.len() >= LONG);
    let random = word
        .split(|c: char| !(c.is_ascii_alphanumeric() || "+/_-=".contains(c)))
        .any(looks_random);
    long || random || has_login(word)
}

/// Mixed letters and digits without any order, as in base64; neither a path nor a name.
fn looks_random(run: &str) -> bool {
    let count = |is: fn(&u8) -> bool| run.bytes().filter(is).count();
    let (upper, lower, digits) = (
        count(u8::is_ascii_uppercase),
        count(u8::is_ascii_lowercase),
        count(u8::is_ascii_digit),
    );
    let mixed = run.len() >= RANDOM && upper >= 3 && lower >= 3 && digits >= 2;
    let marked = run.len() >= LONG && (run.contains('+') || run.ends_with('='));
    mixed || marked || run.len() >= 40 && upper >= 8
}

/// `scheme://user:password@host`, and the same without its scheme.
fn has_login(word: &str) -> bool {
    match word.split_once("://") {
        // A password may hold any other mark of a URL.
        Some((_, rest)) => rest.contains('@'),
        None => word.split_once('@').is_some_and(|(login, host)| {
            login.contains(':') && host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[')
        }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every form in which gatewayd, node, npm, git, libpq and shells were seen to print a password.
    const FORMS: [&str; 36] = [
        "password=SECRET",
        "password = SECRET",
        "password: SECRET",
        "password : SECRET",
        "Password is SECRET",
        "PGPASSWORD=SECRET node x",
        "DB_PASS='SECRET' x",
        r#""password":"SECRET""#,
        r#""password": "SECRET","#,
        r#""password" : "SECRET""#,
        r#"{"user":"gatewayd","password":"SECRET","host":"h"}"#,
        r#"{"user":"gatewayd", "dbPassword":"SECRET", "host":"h"}"#,
        r#"{\"password\":\"SECRET\"}"#,
        "{ user: 'gatewayd', password: 'SECRET', host: 'h' }",
        "{ password: `SECRET` }",
        "password => \"SECRET\"",
        "postgres://gatewayd:SECRET@127.0.0.1:5432/gatewayd",
        "Error: connect to postgres://gatewayd:SECRET@h failed",
        "'postgresql://gatewayd:SECRET@h/d?ssl=1'",
        "DATABASE_URL=postgres://gatewayd:SECRET@h/d",
        "fatal: repository https://user:SECRET@git.example/x.git not found",
        "https://SECRET@git.example/x.git",
        "gatewayd:SECRET@127.0.0.1:5432",
        "host=h user=u password=SECRET dbname=d",
        "psql \"host=h password=SECRET\"",
        "--password SECRET",
        "--password=SECRET",
        "Authorization: Basic SECRET",
        "authorization: 'Bearer SECRET'",
        "//registry.example/:_authToken=SECRET",
        "api_key: SECRET",
        "\"apiKey\":\"SECRET\"",
        "\"KEY\": \"SECRET\"",
        "secret_access_key = SECRET",
        "token=SECRET;",
        "info: SECRET",
    ];

    #[test]
    fn a_quoted_secret_of_several_words_is_hidden_whole() {
        for (text, shown) in [
            (
                r#"{"password": "correct horse battery", "user": "u"}"#,
                r#"{"password": [hidden] "user": "u"}"#,
            ),
            (r#""password":"correct horse battery" end"#, "[hidden] end"),
            ("password = 'correct horse' end", "password = [hidden] end"),
            (r#"password="" end"#, r#"password="" end"#),
        ] {
            assert_eq!(hide(text), shown);
        }
    }

    #[test]
    fn what_an_operator_needs_is_shown() {
        for text in [
            "npm ERR! 404 gatewayd@3.29.0 is not in this registry",
            "fatal: unable to access 'https://github.com/ripple/gatewayd.git/': Could not resolve host",
            "git@github.com:ripple/gatewayd.git: Permission denied (publickey).",
            "Error: Cannot find module '/home/ubuntu/gatewayd/node_modules/sequelize/lib/index.js'",
            "error: pathspec 'v9.9.9' did not match any file(s) known to git",
            "connect ECONNREFUSED 127.0.0.1:5432",
            "sh: 1: pm2: not found",
            "get_key: write error: No space left on device",
            "SyntaxError: Unexpected token < in JSON at position 0",
        ] {
            assert_eq!(hide(text), text);
        }
    }

    proptest! {
        #[test]
        fn no_form_shows_its_secret(form in 0..FORMS.len(), secret in "[a-zA-Z0-9!#$%^*+./~-]{6,40}") {
            let text = FORMS[form].replace("SECRET", &secret);
            // A word of the form itself may happen to be the secret.
            prop_assume!(!FORMS[form].contains(&secret));
            let shown = hide(&text);
            prop_assert!(!shown.contains(&secret), "{} shows {} as {}", FORMS[form], secret, shown);
        }

        #[test]
        fn keys_and_seeds_are_hidden_wherever_they_stand(
            bytes in prop::array::uniform32(any::<u8>()), before in "[ -~]{0,20}", after in "[ -~]{0,20}"
        ) {
            use base64::Engine as _;
            for key in [hex::encode(bytes), base64::engine::general_purpose::STANDARD.encode(bytes)] {
                let shown = hide(&format!("{before} {key} {after}"));
                prop_assert!(!shown.contains(&key), "{shown}");
            }
        }

        #[test]
        fn nothing_makes_it_panic_or_grow(text in any::<String>()) {
            let words = text.split_whitespace().count();
            prop_assert!(hide(&text).len() <= text.len() + words * HIDDEN.len());
        }
    }
}
