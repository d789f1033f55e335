# What the pipeline may do: wrap and unwrap the documents' keys under the one transit key. It can't read, rotate, export or
# delete that key, and without "create" a mistyped key name is refused instead of making a new key.
path "transit/encrypt/dpj-documents" {
  capabilities = ["update"]
}

path "transit/decrypt/dpj-documents" {
  capabilities = ["update"]
}

# Its own login, and nothing else of Vault.
path "auth/token/renew-self" {
  capabilities = ["update"]
}

path "auth/token/revoke-self" {
  capabilities = ["update"]
}
