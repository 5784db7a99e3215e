//! The places of the database, and of a backup, for which secrets are sealed.

/// Where a sealed blob is stored. It opens there and nowhere else.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Table of the database.
    pub table: &'a str,
    /// Column of that table.
    pub column: &'a str,
    /// Primary key of the row, as text.
    pub row: &'a str,
}

impl<'a> Place<'a> {
    /// Where gatewayd's API key is kept. `row` is the gatewayd's id.
    #[must_use]
    pub fn api_key(row: &'a str) -> Self {
        Self {
            table: "api_keys",
            column: "sealed",
            row,
        }
    }

    /// Where a wallet's seed is kept. `row` is the gatewayd's id, a slash, and the version: `42/1`.
    #[must_use]
    pub fn wallet_seed(row: &'a str) -> Self {
        Self {
            table: "wallet_seeds",
            column: "sealed",
            row,
        }
    }

    /// Where the user data of a launch is kept. `row` is the launch attempt's id.
    #[must_use]
    pub fn launch_user_data(row: &'a str) -> Self {
        Self {
            table: "launch_attempts",
            column: "sealed_user_data",
            row,
        }
    }

    /// A seed in a backup file. `row` is fleet, gatewayd's id and address, with slashes between.
    pub(crate) fn backup_seed(row: &'a str) -> Self {
        Self {
            table: "backup",
            column: "seed",
            row,
        }
    }

    /// The last line of a backup file. `row` is the fleet.
    pub(crate) fn backup_trailer(row: &'a str) -> Self {
        Self {
            table: "backup",
            column: "trailer",
            row,
        }
    }
}
