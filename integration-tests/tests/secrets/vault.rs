//! Rows with sealed secrets that no service has made: as many as a test wants, and as spoilt as it wants them.

use gatewayzen_core::repository::SecretKind;
use gatewayzen_core::seal::{KeyRing, Place};
use gatewayzen_core::wallet::{KeyType, Wallet};
use integration_tests::harness::Database;
use uuid::Uuid;

use crate::fixtures::line;

/// A row that has a wallet, an API key and a launch under way.
pub(crate) struct Kept {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) wallet: Wallet,
    pub(crate) attempt: Uuid,
}

impl Kept {
    /// The row to which its secret of a kind is sealed.
    pub(crate) fn place_row(&self, kind: SecretKind) -> String {
        match kind {
            SecretKind::WalletSeeds => format!("{}/1", self.id),
            SecretKind::ApiKeys => self.id.to_string(),
            SecretKind::LaunchAttempts => self.attempt.to_string(),
        }
    }
}

/// A ring of one new key.
pub(crate) fn ring(id: &str) -> KeyRing {
    KeyRing::parse(&line(id)).unwrap()
}

/// The rows `row-000`, `row-001` and so on, in the order of their ids, sealed with these rings by turns.
pub(crate) async fn fill(database: &Database, count: usize, rings: &[&KeyRing]) -> Vec<Kept> {
    let mut all = Vec::new();
    let mut transaction = database.admin.begin().await.unwrap();
    for (n, ring) in rings.iter().cycle().take(count).enumerate() {
        let name = format!("row-{n:03}");
        let id = sqlx::query_scalar("INSERT INTO gatewayds (name) VALUES ($1) RETURNING id")
            .bind(&name)
            .fetch_one(&mut *transaction)
            .await
            .unwrap();
        let wallet = Wallet::generate(KeyType::Ed25519).unwrap();
        let attempt = Uuid::new_v4();
        let row = Kept {
            id,
            name,
            wallet,
            attempt,
        };
        let seal = |kind: SecretKind, secret: &[u8]| {
            let place_row = row.place_row(kind);
            ring.seal(kind.place(&place_row), secret).unwrap()
        };
        let wallet = "INSERT INTO wallets (gatewayd_id, address, key_type) VALUES ($1, $2, 'ed25519')";
        sqlx::query(wallet)
            .bind(id)
            .bind(row.wallet.address())
            .execute(&mut *transaction)
            .await
            .unwrap();
        sqlx::query("INSERT INTO wallet_seeds (gatewayd_id, version, sealed) VALUES ($1, 1, $2)")
            .bind(id)
            .bind(seal(SecretKind::WalletSeeds, row.wallet.seed().expose()))
            .execute(&mut *transaction)
            .await
            .unwrap();
        sqlx::query("INSERT INTO api_keys (gatewayd_id, sealed) VALUES ($1, $2)")
            .bind(id)
            .bind(seal(SecretKind::ApiKeys, b"an API key"))
            .execute(&mut *transaction)
            .await
            .unwrap();
        let launch = "INSERT INTO launch_attempts (id, gatewayd_id, client_token, request, sealed_user_data, host_key, send_until)
             VALUES ($1, $2, $3, '{}', $4, 'a host key', now())";
        sqlx::query(launch)
            .bind(attempt)
            .bind(id)
            .bind(attempt.to_string())
            .bind(seal(SecretKind::LaunchAttempts, b"user data"))
            .execute(&mut *transaction)
            .await
            .unwrap();
        all.push(row);
    }
    transaction.commit().await.unwrap();
    all
}

/// Adds a version 2 of a row's seed, as no rotation makes one.
pub(crate) async fn add_seed(database: &Database, row: &Kept, sealed: &[u8]) {
    sqlx::query("INSERT INTO wallet_seeds (gatewayd_id, version, sealed) VALUES ($1, 2, $2)")
        .bind(row.id)
        .bind(sealed)
        .execute(&database.admin)
        .await
        .unwrap();
}

/// What does not open of a fleet of five rows, each with the sentence that `secrets status` has for it.
pub(crate) struct Spoilt {
    pub(crate) seeds: Vec<String>,
    pub(crate) api_key: String,
    pub(crate) user_data: String,
}

/// Spoils secrets of the rows 1 to 4, whose key is there: a seed of another wallet, one that was changed, one that is no seed,
/// and one that is not even sealed; another row's API key; and user data that was changed.
pub(crate) async fn spoil(database: &Database, ring: &KeyRing, rows: &[Kept]) -> Spoilt {
    let [_, first, second, third, fourth] = rows else {
        panic!("{} rows", rows.len())
    };
    let seal = |row: &Kept, secret: &[u8]| {
        let place_row = format!("{}/2", row.id);
        ring.seal(Place::wallet_seed(&place_row), secret).unwrap()
    };
    let other = Wallet::generate(KeyType::Ed25519).unwrap();
    let mut changed = seal(second, second.wallet.seed().expose());
    *changed.last_mut().unwrap() ^= 1;
    add_seed(database, first, &seal(first, other.seed().expose())).await;
    add_seed(database, second, &changed).await;
    add_seed(database, third, &seal(third, b"no seed")).await;
    add_seed(database, fourth, b"not sealed").await;
    let moved = "UPDATE api_keys k SET sealed = o.sealed FROM api_keys o WHERE k.gatewayd_id = $1 AND o.gatewayd_id = $2";
    sqlx::query(moved)
        .bind(second.id)
        .bind(third.id)
        .execute(&database.admin)
        .await
        .unwrap();
    let changed = "UPDATE launch_attempts SET sealed_user_data = set_byte(sealed_user_data, length(sealed_user_data) - 1,
         get_byte(sealed_user_data, length(sealed_user_data) - 1) # 1) WHERE id = $1";
    sqlx::query(changed)
        .bind(third.attempt)
        .execute(&database.admin)
        .await
        .unwrap();

    let tampered = |place: &str, row: &str| {
        format!(
            "the sealed value in {place} of row {row} does not open with key \"{}\": it was changed, moved from another row, \
             or sealed with another key of the same id",
            ring.sealing_id()
        )
    };
    Spoilt {
        seeds: vec![
            format!(
                "row-001: the seed that is kept for {} is that of another wallet, {}: restore it from a backup",
                first.wallet.address(),
                other.address()
            ),
            format!(
                "row-002: {}",
                tampered("wallet_seeds.sealed", &format!("{}/2", second.id))
            ),
            format!(
                "row-003: what is kept as the seed of {} is no seed: restore it from a backup",
                third.wallet.address()
            ),
            "row-004: the sealed value is not one: its version is unknown to this program; a newer release may have written it"
                .to_owned(),
        ],
        api_key: format!("row-002: {}", tampered("api_keys.sealed", &second.id.to_string())),
        user_data: format!(
            "row-003: {}",
            tampered("launch_attempts.sealed_user_data", &third.attempt.to_string())
        ),
    }
}
