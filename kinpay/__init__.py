"""kinpay: one person spends from another's account, password-free, within limits.

The patent's flow (CN109191092A) and the package that carries each step:

    21  scan the terminal's one code, choose self or proxy   terminals      [0016]-[0017]
    22  ask: spender, payer, decoded code                     registrations  [0018]-[0019]
    23  check and ask the payer                               registrations  [0020]-[0021]
    24  agree, choose a provider, sign there                  registrations, mandates, providers  [0022]-[0024]
    25  the provider authorises us to debit                   mandates, providers  [0025]-[0026]
    26  the terminal captures                                 terminals, sittings, faces  [0027]-[0028]
    27  bind spender, payer and template; tell both           registrations, notifications  [0029]
    --  pay: who is it, decide, debit, book                   sittings, biometrics, charges, ledger  [0032]
    --  what a month came to                                  statements  [0004]
"""
