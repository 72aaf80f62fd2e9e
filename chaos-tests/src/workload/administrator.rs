use std::time::Duration;

use aesp_sdk::{
    Client, ErrorCode,
    v1::{DeleteRoleRequest, Grant, Role},
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::persist::persist;
use crate::history::Recorder;

const PACE: Duration = Duration::from_millis(400);
/// One in so many roles is deleted again.
const DELETED: u64 = 4;

/// Creates roles, deletes some of them, and records what was acknowledged.
pub(super) async fn run(
    administrator: Client,
    tenant_id: String,
    recorder: Recorder,
    stop: CancellationToken,
) {
    let mut number = 0_u64;
    while !stop.is_cancelled() {
        number += 1;
        let role = format!("chaos-{number}");
        // That it exists already is the answer to an attempt whose own answer was lost.
        let created = persist(&stop, async || {
            let grant = Grant { actions: vec!["tool.invoke".into()], resources: vec!["tool:look".into()] };
            let role = Role { name: role.clone(), grants: vec![grant], ..Role::default() };
            let request = aesp_sdk::v1::CreateRoleRequest { tenant_id: tenant_id.clone(), role: Some(role) };
            administrator.authorization().create_role(request).await.map(drop)
        });
        if !matches!(created.await, Some(Ok(()) | Err(ErrorCode::StateConflict))) {
            continue;
        }
        recorder.change(role.clone(), true);
        if number.is_multiple_of(DELETED) {
            let deleted = persist(&stop, async || {
                let request = DeleteRoleRequest { tenant_id: tenant_id.clone(), name: role.clone() };
                administrator.authorization().delete_role(request).await.map(drop)
            });
            match deleted.await {
                Some(Ok(()) | Err(ErrorCode::NotFound)) => recorder.change(role, false),
                // It may or may not be there: nothing was acknowledged.
                _ => recorder.forget(&role),
            }
        }
        tokio::select! {
            () = sleep(PACE) => {}
            () = stop.cancelled() => {}
        }
    }
}
