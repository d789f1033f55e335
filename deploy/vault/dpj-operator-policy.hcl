# Operators (dpj keys): make, look at, rotate and rewrap tenants' keys, and raise the oldest version that they open. No document's
# key can be wrapped or unwrapped with it, and no key exported, trimmed or deleted.
#
# A wildcard can't stand for a part of a path's segment, so keys/+ means all keys of the mount: the mount is the pipeline's own.
path "transit/keys" {
  capabilities = ["list"]
}

path "transit/keys/+" {
  capabilities       = ["read", "create", "update"]
  allowed_parameters = {
    "type"    = ["aes256-gcm96"]
    "derived" = [true]
  }
}

path "transit/keys/+/rotate" {
  capabilities = ["create", "update"]
}

path "transit/keys/+/config" {
  capabilities       = ["create", "update"]
  allowed_parameters = { "min_decryption_version" = [] }
}

# What was signed is verified with the old public halves, and a floor above their versions would hide them.
path "transit/keys/dpj-proofs/config" {
  capabilities = ["deny"]
}

path "transit/rewrap/dpj-tenant-*" {
  capabilities = ["update"]
}

path "auth/token/lookup-self" {
  capabilities = ["read"]
}

path "auth/token/renew-self" {
  capabilities = ["update"]
}

path "auth/token/revoke-self" {
  capabilities = ["update"]
}
