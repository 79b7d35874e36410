"""What was used, by whom, what it costs, and how it is paid for.

The doors, all blocking and thread-safe (call them in a thread); owners are 20 bytes, amounts whole credits
(10^-6 USD), times Unix seconds, hours Unix hours:

    Ledger(path, config, tier)         one SQLite file (store.py); `node.ledger` in a running node
      before a charged action          can, require (402), deduct (once per key)
      how an owner stands              account, tier, history, statements, statement
      what an owner decides            cap, set_cap, pause, resume, renew
      a site                           site_state, set_expiry (the operator), is_unserved (does not block)
      card money                       take_payments, take_payment, deposits_due, deposit_answered, card_payments,
                                       card_received, card_reversed
      the books                        balances, check
      for the loops                    bind, take_usage, tick, take_events, next_batch, answered, news
    Billing                            the loops in a node (service.py); `node.billing`, whose `prices` are announced
    verify.check, verify.check_receipt a statement, without the node that made it
    statements.proved                  one use of a statement, with its proof

`ledger.billing` says whether use is charged: a plugin settles (`ledger_settle`, `chain_status`) and the books balance.
Without that everything is counted, `can` is always yes, and nothing is paused.

Pure: merkle, prices, charging, clock, verify. Over a database, in the caller's transaction: meters, rollup, journal,
booking, mirror, allocations, settlement, statements, pauses, cards,
deposits, facts. `crediting` carries card money from the payment plugins to the chain.
"""
