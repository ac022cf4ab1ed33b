-- A small shop, for MySQL and MariaDB. What is inserted here exists before Rowtide starts, so it is not
-- streamed.

create database shop character set utf8mb4;
use shop;

create table customers (
  id         bigint unsigned not null auto_increment primary key,
  public_id  char(36) not null,
  name       varchar(100) not null,
  email      varchar(100) not null,
  active     boolean not null default true,
  tags       set('vip', 'newsletter') not null default '',
  profile    json,
  created_at timestamp(6) not null default current_timestamp(6)
);

create table products (
  id         bigint unsigned not null auto_increment primary key,
  sku        varchar(20) not null unique,
  title      varchar(200) not null,
  price      decimal(10,2) not null,
  attributes json not null,
  in_stock   int not null,
  updated_at datetime(6) not null default current_timestamp(6)
);

-- No cascades: what they change is not in the log.
create table orders (
  id          bigint unsigned not null auto_increment primary key,
  customer_id bigint unsigned not null,
  status      enum('new', 'paid', 'shipped', 'cancelled') not null default 'new',
  total       decimal(12,2) not null default 0,
  note        text,
  placed_at   timestamp(6) not null default current_timestamp(6),
  key (status, id),
  foreign key (customer_id) references customers (id)
);

create table order_items (
  order_id   bigint unsigned not null,
  product_id bigint unsigned not null,
  quantity   int unsigned not null,
  unit_price decimal(10,2) not null,
  primary key (order_id, product_id),
  foreign key (order_id) references orders (id),
  foreign key (product_id) references products (id)
);

delimiter //

create procedure shop_fill()
begin
  declare n int default 1;
  while n <= 200 do
    insert into customers (public_id, name, email, tags, profile)
    values (uuid(), concat('Customer ', n), concat('customer', n, '@example.com'),
            elt(1 + n % 3, 'vip,newsletter', 'newsletter', ''),
            json_object('language', elt(1 + n % 3, 'en', 'de', 'fr'), 'visits', n));
    set n = n + 1;
  end while;
  set n = 1;
  while n <= 100 do
    insert into products (sku, title, price, attributes, in_stock)
    values (concat('SKU-', lpad(n, 4, '0')), concat('Product ', n), 5 + n * 1.37,
            json_object('color', elt(1 + n % 3, 'red', 'green', 'blue'), 'weight_g', n * 10), 1000);
    set n = n + 1;
  end while;
end //

-- One tick of business, about 15 row changes in one transaction: new orders with their items, orders
-- that move on, stock and prices that change, now and then a new customer, and old orders deleted.
create procedure shop_tick()
begin
  declare new_order, gone bigint unsigned;
  declare n, wanted int;
  start transaction;
  set n = 0;
  while n < 2 do
    set wanted = 1 + floor(rand() * 3);
    insert into orders (customer_id, note)
    values ((select id from customers order by rand() limit 1),
            if(rand() < 0.3, 'Please leave it at the door', null));
    set new_order = last_insert_id();
    insert into order_items (order_id, product_id, quantity, unit_price)
    select new_order, id, 1 + floor(rand() * 4), price from products order by rand() limit wanted;
    update orders set total =
      (select sum(quantity * unit_price) from order_items where order_id = new_order)
    where id = new_order;
    update products join order_items on product_id = id
    set in_stock = in_stock - quantity, updated_at = now(6) where order_id = new_order;
    set n = n + 1;
  end while;
  update orders set status = 'paid' where status = 'new' order by id limit 1;
  update orders set status = if(rand() < 0.1, 'cancelled', 'shipped')
  where status = 'paid' order by id limit 1;
  if rand() < 0.2 then
    insert into customers (public_id, name, email)
    values (uuid(), 'A new customer', concat('new', floor(rand() * 1e9), '@example.com'));
  end if;
  if rand() < 0.2 then
    update products set price = round(price * 1.01, 2), updated_at = now(6) order by rand() limit 1;
  end if;
  set gone = (select min(id) from orders where status = 'cancelled');
  delete from order_items where order_id = gone;
  delete from orders where id = gone;
  commit;
end //

-- Steady writes: one tick of business ten times a second.
create procedure shop_run()
begin
  loop
    call shop_tick();
    do sleep(0.1);
  end loop;
end //

delimiter ;

call shop_fill();
