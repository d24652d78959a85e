use nginx_sys as sys;
