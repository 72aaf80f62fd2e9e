use std::sync::OnceLock;

use aesp_proto::TenantId;

use crate::{
    role::{Grant, Role},
    schema::{PLATFORM_ONLY, vocabulary},
};

/// Returns the roles that the Host makes in `tenant`. They are never stored, and can't be changed.
pub(crate) fn built_in(tenant: TenantId) -> &'static [Role] {
    static TENANT: OnceLock<Vec<Role>> = OnceLock::new();
    static PLATFORM: OnceLock<Vec<Role>> = OnceLock::new();
    if tenant != TenantId::PLATFORM {
        return TENANT.get_or_init(of_every_tenant);
    }
    PLATFORM.get_or_init(|| {
        let mut roles = of_every_tenant();
        let grant = grant(administration(true), &["*"]);
        roles.push(role(
            "platform-admin",
            "Administers the platform and its tenants; calls no tool.",
            vec![grant],
        ));
        roles
    })
}

/// Returns the built-in role of this name.
pub(crate) fn find(tenant: TenantId, name: &str) -> Option<&'static Role> {
    built_in(tenant).iter().find(|role| role.name == name)
}

fn of_every_tenant() -> Vec<Role> {
    vec![
        role(
            "tenant-admin",
            "Administers the tenant; calls no tool.",
            vec![grant(administration(false), &["*"])],
        ),
        role(
            "auditor",
            "Reads, exports and proves the audit log, reports who could and who did, and reads everything else.",
            vec![grant(
                ["audit.query", "audit.export", "audit.prove", "audit.report", "*.read", "*.list"],
                &["*"],
            )],
        ),
        role(
            "operator",
            "Looks after Runtimes, sessions and alerts, and settles calls with an unknown outcome.",
            vec![grant(
                [
                    "runtime.*",
                    "session.list",
                    "session.destroy",
                    "tool.resolve",
                    "alert.read",
                    "alert.acknowledge",
                    "alert.silence",
                ],
                &["*"],
            )],
        ),
        role(
            "agent",
            "Has sessions of its own; which tools it may call, other roles say.",
            vec![
                grant(["session.create"], &["*"]),
                grant(
                    [
                        "session.read",
                        "session.renew",
                        "session.destroy",
                        "tool.list",
                        "tool.cancel",
                        "tool.outcome",
                        "tool.log_result",
                    ],
                    &["session:own"],
                ),
            ],
        ),
    ]
}

/// Returns every action but calling tools.
fn administration(platform: bool) -> Vec<String> {
    let names = vocabulary().actions.iter().map(|action| action.name.as_str());
    names
        .filter(|name| *name != "tool.invoke" && (platform || !PLATFORM_ONLY.contains(name)))
        .map(str::to_owned)
        .collect()
}

fn role(name: &str, description: &str, grants: Vec<Grant>) -> Role {
    Role { name: name.into(), description: description.into(), inherits: vec![], grants, built_in: true }
}

fn grant<S: Into<String>>(actions: impl IntoIterator<Item = S>, resources: &[&str]) -> Grant {
    Grant {
        actions: actions.into_iter().map(Into::into).collect(),
        resources: resources.iter().map(|r| (*r).to_owned()).collect(),
    }
}
