# API and workers: wrap and unwrap documents' keys under tenants' keys. They can't make, read, rotate, export or delete a key,
# and without "create" a tenant's name that was mistyped is refused instead of making a new key.
path "transit/encrypt/dpj-tenant-*" {
  capabilities = ["update"]
}

path "transit/decrypt/dpj-tenant-*" {
  capabilities = ["update"]
}

# What the single key wrapped that sites had before each tenant got its own. Drop it where there never was one.
path "transit/decrypt/dpj-documents" {
  capabilities = ["update"]
}

# Its own login, and nothing else of Vault.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}

path "auth/token/renew-self" {
  capabilities = ["update"]
}

path "auth/token/revoke-self" {
  capabilities = ["update"]
}
