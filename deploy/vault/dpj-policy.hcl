# What the pipeline may do: wrap, unwrap and rewrap the documents' keys under the one transit key, and read its current
# version. It can neither export, delete nor replace the key.
path "transit/encrypt/dpj-documents" {
  capabilities = ["update"]
}

path "transit/decrypt/dpj-documents" {
  capabilities = ["update"]
}

path "transit/rewrap/dpj-documents" {
  capabilities = ["update"]
}

path "transit/keys/dpj-documents" {
  capabilities = ["read"]
}

# Rotation is the operator's: `dpj keys rotate` adds a version, wrapped keys are then rewrapped row by row.
path "transit/keys/dpj-documents/rotate" {
  capabilities = ["update"]
}

path "auth/token/renew-self" {
  capabilities = ["update"]
}

path "auth/token/revoke-self" {
  capabilities = ["update"]
}
