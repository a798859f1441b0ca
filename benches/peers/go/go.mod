module greenloom/benches/peers

go 1.19
