"""Who may do what: accounts, users, roles, policies, quotas, and the audit trail."""
