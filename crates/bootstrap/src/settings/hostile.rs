//! Whatever stands in the settings file and in the environment: settings, or one sentence that shows no secret.

use std::ffi::OsString;
use std::io::Write as _;

use proptest::prelude::*;

use super::load::{DEFAULTS, SECRET, read};

/// Every key of the defaults, with the line that sets it.
fn keys() -> Vec<String> {
    let mut section = String::new();
    let mut keys = Vec::new();
    for line in DEFAULTS.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
        } else if let Some((key, _)) = line.split_once(" = ")
            && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        {
            keys.push(format!("{section}.{key}"));
        }
    }
    keys
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| format!("{number:?}")),
        Just("true".to_owned()),
        Just("[]".to_owned()),
        Just("{ a = 1 }".to_owned()),
        Just("[[[[[[[[]]]]]]]]".to_owned()),
        any::<String>().prop_map(|text| serde_json::Value::from(text).to_string()),
        "[0-9]{1,25}(ms|s|m|h|d|y)?".prop_map(|text| format!("\"{text}\"")),
        any::<String>(),
    ]
}

fn config() -> ProptestConfig {
    // Reading all settings takes a millisecond.
    let usual = ProptestConfig::default();
    ProptestConfig {
        cases: (usual.cases / 10).max(50),
        ..usual
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_value_of_any_setting_is_taken_or_refused_by_a_sentence(
        lines in prop::collection::vec((any::<prop::sample::Index>(), value()), 1..4)
    ) {
        let keys = keys();
        prop_assert!(keys.len() > 60);
        let text: String = lines.iter().map(|(key, value)| format!("{} = {value}\n", key.get(&keys))).collect();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        if let Err(error) = read(Some(file.path()), Vec::<(OsString, OsString)>::new()) {
            prop_assert!(!error.to_string().contains('\n') || text.contains("\\n"), "{error}");
        }
        let environment = lines.iter().map(|(key, value)| {
            let name = format!("GATEWAYZEN_{}", key.get(&keys).replace('.', "__").to_uppercase());
            (OsString::from(name), OsString::from(value))
        });
        if let Ok(settings) = read(None, environment) {
            let _ = (settings.warnings(), crate::exposure::warnings(&settings, None), format!("{settings:?}"));
        }
    }

    #[test]
    fn a_secret_of_the_settings_is_in_no_sentence(
        key in prop::sample::select(SECRET.to_vec()),
        secret in "hunter[a-zA-Z0-9]{12}",
        form in prop::sample::select(vec!["SECRET", "\"SECRET\"", "\"x://u:SECRET@h\"", "\"redis://u:SECRET@:x\"",
            "\"postgres://u:SECRET@h:99999999/d\"", "\"k1:SECRET\"", "[\"SECRET\"]", "\"SECRET", "{ a = \"SECRET\" }"]),
    ) {
        let value = form.replace("SECRET", &secret);
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(format!("{key} = {value}\n").as_bytes()).unwrap();
        let name = format!("GATEWAYZEN_{}", key.replace('.', "__").to_uppercase());
        let environment = [(OsString::from(name), OsString::from(value.trim_matches('"')))];
        for outcome in [read(Some(file.path()), Vec::<(OsString, OsString)>::new()), read(None, environment)] {
            let said = match outcome {
                Ok(settings) => format!("{settings:?} {:?} {:?}", settings.warnings(), crate::exposure::warnings(&settings, None)),
                Err(error) => format!("{error} {error:?}"),
            };
            prop_assert!(!said.contains(&secret), "{said}");
        }
    }
}
