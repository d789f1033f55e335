# What the pipeline may do: wrap and unwrap the documents' keys under the one transit key. It can't read, rotate, export or
# delete that key, and without "create" a mistyped key name is refused instead of making a new key.
path "transit/encrypt/dpj-documents" {
  capabilities = ["update"]
}

path "transit/decrypt/dpj-documents" {
  capabilities = ["update"]
}

# Sign audit checkpoints and receipts, and read the public halves that verify them. The private key stays in Vault.
path "transit/sign/dpj-proofs" {
  capabilities = ["update"]
}

path "transit/keys/dpj-proofs" {
  capabilities = ["read"]
}

# Its own login, and nothing else of Vault.
path "auth/token/renew-self" {
  capabilities = ["update"]
}

path "auth/token/revoke-self" {
  capabilities = ["update"]
}
