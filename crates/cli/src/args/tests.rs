use clap::CommandFactory as _;

use super::*;

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn a_timeout_is_a_number_and_its_unit() {
    assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
    assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
    assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
    assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
    for bad in [
        "",
        "s",
        "-1s",
        "1.5s",
        "10 s",
        "ten",
        "99999999999999999999h",
        "18446744073709551615h",
    ] {
        assert!(duration(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_state_that_does_not_exist_is_refused_with_those_that_do() {
    let refused = Cli::try_parse_from(["gatewayzen", "move", "acme", "lively"])
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("lively") && refused.contains("terminated"),
        "{refused}"
    );
}
