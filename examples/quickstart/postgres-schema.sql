-- A small shop. What is inserted here exists before Rowtide starts, so it is not streamed.

create type order_status as enum ('new', 'paid', 'shipped', 'cancelled');

create table customers (
  id         bigint generated always as identity primary key,
  public_id  uuid not null default gen_random_uuid(),
  name       text not null,
  email      text not null,
  active     boolean not null default true,
  tags       text[] not null default '{}',
  profile    jsonb,
  created_at timestamptz not null default now()
);

create table products (
  id         bigint generated always as identity primary key,
  sku        text not null unique,
  title      text not null,
  price      numeric(10,2) not null,
  attributes jsonb not null default '{}',
  in_stock   integer not null,
  updated_at timestamptz not null default now()
);

create table orders (
  id          bigint generated always as identity primary key,
  customer_id bigint not null references customers,
  status      order_status not null default 'new',
  total       numeric(12,2) not null default 0,
  note        text,
  placed_at   timestamptz not null default now()
);

create table order_items (
  order_id   bigint not null references orders on delete cascade,
  product_id bigint not null references products,
  quantity   integer not null,
  unit_price numeric(10,2) not null,
  primary key (order_id, product_id)
);

create index on orders (status, id);

insert into customers (name, email, tags, profile)
select format('Customer %s', n), format('customer%s@example.com', n),
       case n % 3 when 0 then '{vip,newsletter}'::text[] when 1 then '{newsletter}' else '{}' end,
       jsonb_build_object('language', (array['en', 'de', 'fr'])[1 + n % 3], 'visits', n)
from generate_series(1, 200) n;

insert into products (sku, title, price, attributes, in_stock)
select format('SKU-%s', lpad(n::text, 4, '0')), format('Product %s', n), (5 + n * 1.37)::numeric(10,2),
       jsonb_build_object('color', (array['red', 'green', 'blue'])[1 + n % 3], 'weight_g', n * 10),
       1000
from generate_series(1, 100) n;

-- One tick of business, about 15 row changes in one transaction: new orders with their items, orders
-- that move on, stock and prices that change, now and then a new customer, and old orders deleted.
create function shop_tick() returns void language plpgsql as $$
declare
  new_order bigint;
  lines     integer;
begin
  for i in 1..2 loop
    lines := 1 + floor(random() * 3);
    insert into orders (customer_id, note)
    values ((select id from customers order by random() limit 1),
            case when random() < 0.3 then 'Please leave it at the door' end)
    returning id into new_order;
    insert into order_items (order_id, product_id, quantity, unit_price)
    select new_order, id, 1 + floor(random() * 4)::integer, price
    from (select id, price from products order by random() limit lines) chosen;
    update orders set total =
      (select sum(quantity * unit_price) from order_items where order_id = new_order)
    where id = new_order;
    update products p set in_stock = in_stock - quantity, updated_at = clock_timestamp()
    from order_items where order_id = new_order and p.id = product_id;
  end loop;
  update orders set status = 'paid'
  where id = (select id from orders where status = 'new' order by id limit 1);
  update orders set status = case when random() < 0.1 then 'cancelled' else 'shipped' end::order_status
  where id = (select id from orders where status = 'paid' order by id limit 1);
  if random() < 0.2 then
    insert into customers (name, email, profile)
    values ('A new customer', format('new%s@example.com', floor(random() * 1e9)), null);
  end if;
  if random() < 0.2 then
    update products set price = round(price * 1.01, 2), updated_at = clock_timestamp()
    where id = (select id from products order by random() limit 1);
  end if;
  delete from orders
  where id in (select id from orders where status = 'cancelled' order by id limit 1);
end
$$;
