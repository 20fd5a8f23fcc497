//! The intruder: tries as the program's role, then as a superuser with the guards off.

use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, Row as _};

use super::stage::Stage;
use super::{Teller, broken};
use crate::exit::{Failure, environment};

const SWITCH_OFF: &str = "alter table ledger.payloads disable trigger all";
const SWITCH_ON: &str = "alter table ledger.payloads enable always trigger refuse_update;
     alter table ledger.payloads enable always trigger announced_delete;
     alter table ledger.payloads enable always trigger refuse_truncate";

pub(super) async fn breaks_in(
    stage: &Stage,
    teller: &mut Teller,
    head: &str,
) -> Result<(), Failure> {
    teller.chapter(8, "An intruder")?;
    let sql = "update ledger.payloads set bytes = bytes";
    teller.say(format_args!(
        "   sql> {sql};   -- with the program's own login"
    ))?;
    let refused = sqlx::query(sql).execute(stage.pool()).await;
    let code = refused
        .as_ref()
        .err()
        .and_then(|error| error.as_database_error()?.code());
    let is_refused = code.as_deref() == Some("42501");
    teller.check("the program's role may not change an entry", is_refused)?;

    let Some(options) = stage.superuser() else {
        return Ok(());
    };
    let mut superuser = options
        .connect()
        .await
        .map_err(environment("connect as a superuser"))?;
    let result = as_superuser(stage, teller, head, &mut superuser).await;
    // Whatever came of it, the guards are on when the demo ends.
    execute(&mut superuser, SWITCH_ON).await?;
    superuser.close().await.map_err(environment("leave"))?;
    result
}

async fn as_superuser(
    stage: &Stage,
    teller: &mut Teller,
    head: &str,
    superuser: &mut PgConnection,
) -> Result<(), Failure> {
    let row = sqlx::query(
        "select p.seq, p.bytes, e.ledger_id from ledger.payloads p \
         join ledger.entries e using (ledger_id, seq) join ledger.heads h using (ledger_id) \
         where h.name = $1 and e.type = 'item.deleted' order by seq limit 1",
    )
    .bind(&stage.ledger)
    .fetch_one(&mut *superuser)
    .await
    .map_err(environment("look for an entry to falsify"))?;
    let read = |error: sqlx::Error| environment("look for an entry to falsify")(error);
    let seq: i64 = row.try_get("seq").map_err(read)?;
    let original: Vec<u8> = row.try_get("bytes").map_err(read)?;
    let ledger: uuid::Uuid = row.try_get("ledger_id").map_err(read)?;
    teller.say("   sql> alter table ledger.payloads disable trigger all;   -- as a superuser")?;
    teller.say(format_args!(
        "   sql> update … set bytes = … where seq = {seq};   -- one bit of a deletion"
    ))?;
    execute(superuser, SWITCH_OFF).await?;
    let mut falsified = original.clone();
    if let Some(last) = falsified.last_mut() {
        *last ^= 1;
    }
    let put = async |bytes: Vec<u8>, superuser: &mut PgConnection| -> Result<(), Failure> {
        sqlx::query("update ledger.payloads set bytes = $3 where ledger_id = $1 and seq = $2")
            .bind(ledger)
            .bind(seq)
            .bind(bytes)
            .execute(superuser)
            .await
            .map_err(environment("falsify an entry"))?;
        Ok(())
    };
    put(falsified, &mut *superuser).await?;
    execute(superuser, SWITCH_ON).await?;

    let ran = stage.run(&["verify", "--head", head]).await?;
    teller.command(&ran)?;
    let how = ran.answer["broken"][0]["how"]
        .as_str()
        .unwrap_or("nothing was found");
    teller.say(format_args!(
        "   tampered: seq {}: {how}",
        ran.answer["broken"][0]["seq"]
    ))?;
    let named = broken(&ran.answer) == serde_json::json!([seq]);
    teller.figure("tampered_seq", seq);
    teller.check(
        "verify names the falsified entry and no other",
        ran.exit == 1 && named,
    )?;

    execute(superuser, SWITCH_OFF).await?;
    put(original, &mut *superuser).await?;
    execute(superuser, SWITCH_ON).await?;
    let ran = stage.run(&["verify", "--head", head]).await?;
    teller.say("   The entry is put back, and the guards are on again.")?;
    teller.command(&ran)?;
    let intact = ran.exit == 0 && ran.answer["verdict"] == "intact";
    teller.check(
        "the ledger is intact again, up to the head that was kept",
        intact,
    )
}

async fn execute(connection: &mut PgConnection, sql: &'static str) -> Result<(), Failure> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(connection)
        .await
        .map_err(environment("change the guards"))?;
    Ok(())
}
