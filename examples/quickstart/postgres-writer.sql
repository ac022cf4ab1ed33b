-- Steady writes: one tick of business ten times a second.
select shop_tick() \watch 0.1
